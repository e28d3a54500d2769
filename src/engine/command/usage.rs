//! Derives arity and key positions from a command's usage line, so that they are declared once.
//!
//! The grammar is that of Redis's manual: words; `[optional]`; `(group)`; `a|b`; `+` after a word or group
//! repeats it. The words `key`, `source`, `destination` and `newkey` are keys; `shardchannel`
//! is where a key would be, and decides which node of a cluster has it. A few commands whose keys
//! cannot be derived from a usage line (numkeys) declare them with `Command::keys`.

/// Arity and key positions in Redis's conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The number of words, the name included; negative for "at least".
    pub arity: i32,
    /// First and last key word and the step between keys; last -1 is the last word; all 0 if there are no
    /// keys.
    pub keys: (i32, i32, i32),
}

/// Parses a usage line; `name_words` is 1, or 2 for a subcommand.
pub fn shape(usage: &str, name_words: i32) -> Shape {
    let mut parser =
        Parser { tokens: tokenize(usage), next: 0, at: name_words, open: false, keys: Vec::new() };
    parser.sequence(false);
    let arity = if parser.open { -parser.at } else { parser.at };
    Shape { arity, keys: key_range(&parser.keys) }
}

/// A key word: its position, and the group's width if the group repeats.
struct KeyWord {
    position: i32,
    repeats_every: Option<i32>,
    /// The number of words after the group, if that repeats.
    words_after: i32,
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    next: usize,
    /// The position of the next required word.
    at: i32,
    /// True once an optional or repeated part was seen.
    open: bool,
    keys: Vec<KeyWord>,
}

impl Parser<'_> {
    /// Parses until the end or a closing bracket.
    fn sequence(&mut self, optional: bool) {
        while let Some(&token) = self.tokens.get(self.next) {
            self.next += 1;
            match token {
                "]" | ")" => return,
                "[" => {
                    self.open = true;
                    self.sequence(true);
                }
                "(" => self.group(optional),
                "+" => self.repeat(self.at - 1),
                "|" => self.skip_alternative(),
                word => self.word(word, optional),
            }
        }
    }

    fn group(&mut self, optional: bool) {
        let start = self.at;
        self.sequence(optional);
        if self.tokens.get(self.next) == Some(&"+") {
            self.next += 1;
            self.repeat(start);
        }
    }

    fn word(&mut self, word: &str, optional: bool) {
        if optional && word != "shardchannel" {
            return;
        }
        if matches!(word, "key" | "source" | "destination" | "newkey" | "shardchannel") {
            self.keys.push(KeyWord { position: self.at, repeats_every: None, words_after: 0 });
        }
        self.at += i32::from(!optional);
        for key in self.keys.iter_mut().filter(|key| key.repeats_every.is_some()) {
            key.words_after += i32::from(!optional);
        }
    }

    /// All words from `start` on repeat.
    fn repeat(&mut self, start: i32) {
        self.open = true;
        let width = self.at - start;
        for key in self.keys.iter_mut().filter(|key| key.position >= start) {
            key.repeats_every = Some(width);
        }
    }

    /// `a|b` has the width of its first branch.
    fn skip_alternative(&mut self) {
        let mut depth = 0;
        while let Some(&token) = self.tokens.get(self.next) {
            match token {
                "(" | "[" => depth += 1,
                ")" | "]" if depth == 0 => return,
                ")" | "]" => depth -= 1,
                _ if depth == 0 => {
                    self.next += 1;
                    return;
                }
                _ => {}
            }
            self.next += 1;
        }
    }
}

fn key_range(keys: &[KeyWord]) -> (i32, i32, i32) {
    match keys {
        [] => (0, 0, 0),
        [first, .., KeyWord { repeats_every: Some(width), .. }] => (first.position, -1, *width),
        [first, .., last] => (first.position, last.position, last.position - first.position),
        [KeyWord { position, repeats_every: Some(width), words_after }] => {
            (*position, -1 - words_after, *width)
        }
        [KeyWord { position, repeats_every: None, .. }] => (*position, *position, 1),
    }
}

fn tokenize(usage: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = usage;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            ' ' => {
                rest = &rest[1..];
                continue;
            }
            '[' | ']' | '(' | ')' | '|' | '+' => 1,
            _ => rest.find([' ', '[', ']', '(', ')', '|', '+']).unwrap_or(rest.len()),
        };
        tokens.push(&rest[..length]);
        rest = &rest[length..];
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arity_and_keys_as_redis_lists_them() {
        for (usage, arity, keys) in [
            ("", 1, (0, 0, 0)),
            ("key", 2, (1, 1, 1)),
            ("key+", -2, (1, -1, 1)),
            ("(key value)+", -3, (1, -1, 2)),
            ("key (field value)+", -4, (1, 1, 1)),
            ("key value [NX|XX] [GET] [EX seconds|PX milliseconds|KEEPTTL]", -3, (1, 1, 1)),
            ("source destination [DB number] [REPLACE]", -3, (1, 2, 1)),
            ("key newkey", 3, (1, 2, 1)),
            ("key seconds [NX|XX|GT|LT]", -3, (1, 1, 1)),
            ("key seconds FIELDS numfields field+", -6, (1, 1, 1)),
            ("cursor [MATCH pattern]", -2, (0, 0, 0)),
            ("[message]", -1, (0, 0, 0)),
            ("(NX|XX) key", 3, (2, 2, 1)),
            ("key+ timeout", -3, (1, -2, 1)),
            ("operation destination key+", -4, (2, -1, 1)),
        ] {
            assert_eq!(shape(usage, 1), Shape { arity, keys }, "{usage}");
        }
    }
}
