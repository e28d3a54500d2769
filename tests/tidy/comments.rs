//! Lines with comments have at most 110 columns, which rustfmt enforces for code only.

use super::assert_none;
use super::sources::sources;
use std::collections::BTreeMap;
use std::fmt::Write;

const COLUMNS_MAX: usize = 110;

/// Lines that are longer today, at most, by the beginning of their path. The numbers only get smaller.
const LONGER: &[(&str, usize)] = &[("src/engine/", 5)];

#[test]
fn comments_end_at_column_110() {
    let mut longer: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let all = sources();
    for source in &all {
        let folder = LONGER.iter().map(|(folder, _)| *folder).find(|folder| source.path.starts_with(folder));
        for (index, line) in source.lines.iter().enumerate() {
            if line.contains("//") && line.chars().count() > COLUMNS_MAX {
                let place = format!("{}:{}", source.path, index + 1);
                longer.entry(folder.unwrap_or(&source.path)).or_default().push(place);
            }
        }
    }
    let mut complaints = String::new();
    for (folder, places) in &longer {
        let allowed = LONGER.iter().find(|(name, _)| name == folder).map_or(0, |(_, allowed)| *allowed);
        if places.len() > allowed {
            let places = places.join("\n    ");
            _ = writeln!(complaints, "{folder}: {allowed} long comment lines at most, found\n    {places}");
        }
    }
    for (folder, _) in LONGER.iter().filter(|(folder, _)| !longer.contains_key(folder)) {
        _ = writeln!(complaints, "{folder} has no long comment lines any more: it must leave LONGER");
    }
    assert_none(complaints);
}
