//! Counts by type, and the table that closes a run.

use std::collections::BTreeMap;

/// What was found or moved, by type.
#[derive(Clone, Debug, Default)]
pub struct TypeCounts {
    types: BTreeMap<String, TypeCount>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct TypeCount {
    pub keys: u64,
    /// Elements, fields, members; 1 for a string.
    pub parts: u64,
}

impl TypeCounts {
    pub fn add(&mut self, type_name: &str, parts: u64) {
        let tally = match self.types.get_mut(type_name) {
            Some(tally) => tally,
            None => self.types.entry(type_name.to_owned()).or_default(),
        };
        tally.keys += 1;
        tally.parts += parts;
    }

    pub fn keys(&self) -> u64 {
        self.types.values().map(|tally| tally.keys).sum()
    }

    pub fn types(&self) -> impl Iterator<Item = (&str, TypeCount)> {
        self.types.iter().map(|(name, tally)| (name.as_str(), *tally))
    }

    pub fn json(&self) -> serde_json::Value {
        let types = self.types().map(|(name, TypeCount { keys, parts })| {
            (name.to_owned(), serde_json::json!({ "keys": keys, "parts": parts }))
        });
        types.collect::<serde_json::Map<_, _>>().into()
    }

    /// Lines with headings and a sum.
    pub fn table(&self) -> String {
        let mut rows = vec![["type".to_owned(), "keys".to_owned(), "elements".to_owned()]];
        let sum = TypeCount { keys: self.keys(), parts: self.types.values().map(|tally| tally.parts).sum() };
        for (name, TypeCount { keys, parts }) in self.types().chain([("all", sum)]) {
            rows.push([name.to_owned(), keys.to_string(), parts.to_string()]);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        let lines = rows.iter().map(|[name, keys, parts]| {
            format!("{name:<0$}  {keys:>1$}  {parts:>2$}\n", widths[0], widths[1], widths[2])
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::TypeCounts;

    #[test]
    fn the_table_has_a_line_for_each_type_and_a_sum() {
        let mut tally = TypeCounts::default();
        tally.add("string", 1);
        tally.add("hash", 1000);
        tally.add("hash", 2);
        let wanted = "type    keys  elements\nhash       2      1002\nstring     1         1\nall        3      1003\n";
        assert_eq!(tally.table(), wanted);
    }
}
