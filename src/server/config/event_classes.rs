//! `notify-keyspace-events`: which events of keys are published, in Redis's letters.

use engramdb_engine::store::notices::class;

/// Classes of events, as bits of [`class`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventClasses(pub u32);

/// The letters in the order in which Redis shows them: those that A includes, then the others.
const LETTERS: &[(char, u32)] = &[
    ('g', class::GENERIC),
    ('$', class::STRING),
    ('l', class::LIST),
    ('s', class::SET),
    ('h', class::HASH),
    ('z', class::SORTED_SET),
    ('x', class::EXPIRED),
    ('e', class::EVICTED),
    ('t', class::STREAM),
    ('d', class::MODULE),
    ('n', class::NEW),
];
const ALWAYS_SHOWN: &[(char, u32)] =
    &[('K', class::KEYSPACE), ('E', class::KEYEVENT), ('m', class::KEY_MISS)];

impl EventClasses {
    pub fn read(text: &str) -> Result<EventClasses, String> {
        let mut classes = 0;
        for letter in text.chars() {
            let known = LETTERS.iter().chain(ALWAYS_SHOWN).find(|(known, _)| *known == letter);
            classes |= match (letter, known) {
                ('A', _) => class::ALL,
                (_, Some((_, class))) => *class,
                _ => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned()),
            };
        }
        Ok(EventClasses(classes))
    }

    /// As Redis does, without the letter n where A is shown.
    pub fn show(self) -> String {
        let shown = |letters: &[(char, u32)]| {
            letters
                .iter()
                .filter(|(_, class)| self.0 & class != 0)
                .map(|(letter, _)| *letter)
                .collect::<String>()
        };
        let first = if self.0 & class::ALL == class::ALL { "A".to_owned() } else { shown(LETTERS) };
        first + &shown(ALWAYS_SHOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_shown_as_redis_shows_them() {
        for (text, shown) in [
            ("", ""),
            ("KEA", "AKE"),
            ("g$lshzxetdKE", "AKE"),
            ("KEmn", "nKEm"),
            ("AKEmn", "AKEm"),
            ("Kx", "xK"),
            ("Elg", "glE"),
        ] {
            assert_eq!(EventClasses::read(text).map(EventClasses::show).as_deref(), Ok(shown), "{text}");
        }
        assert!(EventClasses::read("KEq").is_err());
    }
}
