//! Unsafe code is forbidden in crates that have none; in others it is allowed only in named files.

use super::assert_none;
use super::sources::{manifests, root, sources};
use std::fmt::Write;

/// The source folders of crates with unsafe code, and the files or folders that have it.
const WITH_UNSAFE: &[(&str, &[&str])] = &[
    // The entries' pointers.
    ("src/engine/", &["src/engine/thin.rs"]),
    // Distance kernels, and the graph's storage.
    ("modules/vector/", &["modules/vector/"]),
    // The allocator.
    ("src/", &["src/memory.rs"]),
];

const FORBIDDEN: &str = "#![forbid(unsafe_code)]";
const ALLOWED: &str = "allow(unsafe_code";

#[test]
fn crates_without_unsafe_code_forbid_it() {
    let mut complaints = String::new();
    for manifest in manifests() {
        let text = std::fs::read_to_string(&manifest).expect("a manifest is text");
        if !text.contains("[lints]\nworkspace = true") {
            _ = writeln!(complaints, "{}: does not take the workspace's lints", manifest.display());
        }
        let folder = manifest.parent().expect("a file is in a folder");
        let library = folder.join("lib.rs");
        let entry = if library.exists() { library } else { root().join("src/main.rs") };
        let path = entry.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        let has_unsafe = WITH_UNSAFE
            .iter()
            .any(|(crate_folder, _)| path.strip_prefix(crate_folder).is_some_and(|file| !file.contains('/')));
        let forbids = std::fs::read_to_string(&entry).expect("a source is text").contains(FORBIDDEN);
        if has_unsafe == forbids {
            let wanted = if has_unsafe { "it has unsafe code and cannot forbid it" } else { FORBIDDEN };
            _ = writeln!(complaints, "{path}: {wanted}");
        }
    }
    assert_none(complaints);
}

#[test]
fn unsafe_code_is_allowed_in_named_files_only() {
    let mut complaints = String::new();
    let places = || WITH_UNSAFE.iter().flat_map(|(_, places)| *places);
    for source in sources().iter().filter(|source| !source.is_test()) {
        let allows = source.lines.iter().position(|line| line.contains(ALLOWED));
        if let Some(line) = allows.filter(|_| !places().any(|place| source.path.starts_with(place))) {
            _ = writeln!(complaints, "{}:{}: unsafe code is not allowed here", source.path, line + 1);
        }
    }
    assert_none(complaints);
}
