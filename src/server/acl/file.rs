//! ACL files: a `user` line for each user. The store's own users are effects; a file only brings users in.

use crate::acl::{Acl, Rights, merge_selectors};

/// A user of a file, or of the configuration: the name, and all rules in the words of ACL LIST.
pub type FileUser = (Vec<u8>, Vec<u8>);

/// The users of an ACL file.
///
/// # Errors
/// A text about all lines that are wrong, in Redis's words.
#[expect(clippy::disallowed_methods, reason = "an ACL file is not in the engine's directory")]
pub fn read_file(acl: &Acl, path: &str) -> Result<Vec<FileUser>, String> {
    let text =
        std::fs::read(path).map_err(|error| format!("Error loading ACLs, opening file '{path}': {error}"))?;
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.map(|(index, line)| (index + 1, line.trim_ascii()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"));
    let users = lines.map(|(number, line)| {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        (number, words)
    });
    parse(acl, path, users)
}

/// The same of lines that are split into words.
pub fn parse<'w>(
    acl: &Acl,
    path: &str,
    lines: impl Iterator<Item = (usize, Vec<&'w [u8]>)>,
) -> Result<Vec<FileUser>, String> {
    let mut users: Vec<FileUser> = Vec::new();
    let mut problems = String::new();
    for (number, words) in lines {
        let [b"user", name, rules @ ..] = &words[..] else {
            problems += &format!("{path}:{number} should start with user keyword followed by the username. ");
            continue;
        };
        if users.iter().any(|(known, _)| known == name) {
            let name = String::from_utf8_lossy(name);
            problems += &format!("WARNING: Duplicate user '{name}' found on line {number}. ");
            continue;
        }
        match rights(acl, rules) {
            Ok(rights) => users.push((name.to_vec(), rights.describe())),
            Err(cause) => problems += &format!("{path}:{number}: {cause}. "),
        }
    }
    if !problems.is_empty() {
        return Err(format!(
            "{problems}WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
        ));
    }
    Ok(users)
}

fn rights(acl: &Acl, rules: &[&[u8]]) -> Result<Rights, String> {
    let shown = |rule: &[u8]| String::from_utf8_lossy(rule).into_owned();
    let rules = merge_selectors(rules)
        .map_err(|index| format!("Unmatched parenthesis in selector definition '{}'", shown(rules[index])))?;
    let mut rights = acl.new_rights();
    for rule in rules {
        rights.apply(&acl.catalog, &rule, acl.permits_channels()).map_err(|cause| match cause {
            "Syntax error" => cause.to_owned(),
            _ => format!("Error in applying operation '{}': {cause}", shown(&rule)),
        })?;
    }
    Ok(rights)
}
