//! The edit distance of two words, as far as it matters.

/// The number of characters to insert, remove or replace to make one word of the other; `None` if it is more
/// than `most`. Takes time in proportion to the shorter word and `most`.
pub fn distance(one: &[char], other: &[char], most: usize) -> Option<usize> {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    if long.len() - short.len() > most {
        return None;
    }
    // `row[k]` is the distance of the first `read` characters of `short` to the first `read + k - most` of
    // `long`: all other beginnings are too far.
    let far = most + 1;
    let mut row: Vec<usize> = (0..=2 * most).map(|k| if k < most { far } else { k - most }).collect();
    for (read, character) in short.iter().enumerate() {
        for k in 0..row.len() {
            let Some(length) = (read + 1 + k).checked_sub(most).filter(|&length| length <= long.len()) else {
                row[k] = far;
                continue;
            };
            let replaced = match length.checked_sub(1) {
                Some(last) => row[k] + usize::from(long[last] != *character),
                None => far,
            };
            let removed = row.get(k + 1).map_or(far, |before| before + 1);
            let inserted = k.checked_sub(1).map_or(far, |before| row[before] + 1);
            row[k] = replaced.min(removed).min(inserted).min(far);
        }
        if row.iter().all(|&edits| edits > most) {
            return None;
        }
    }
    let last = row[long.len() - short.len() + most];
    (last <= most).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(one: &[char], other: &[char]) -> usize {
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (at, character) in one.iter().enumerate() {
            let mut before = row[0];
            row[0] = at + 1;
            for place in 0..other.len() {
                let replaced = before + usize::from(*character != other[place]);
                before = row[place + 1];
                row[place + 1] = replaced.min(before + 1).min(row[place] + 1);
            }
        }
        row[other.len()]
    }

    proptest! {
        #[test]
        fn is_that_of_the_whole_table(one in "[abc]{0,9}", other in "[abc]{0,9}", most in 1..5usize) {
            let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
            let expected = Some(whole(&one, &other)).filter(|&edits| edits <= most);
            prop_assert_eq!(distance(&one, &other, most), expected);
        }
    }
}
