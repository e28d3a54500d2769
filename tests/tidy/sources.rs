//! The sources of the workspace, as lines.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub struct Source {
    pub path: String,
    pub lines: Vec<String>,
}

impl Source {
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().expect("a path has a last part");
        self.path.starts_with("tests/")
            || self.path.starts_with("benches/")
            || self.path.contains("/tests/")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
            || self.path.starts_with("modules/sim/")
            || self.path.starts_with("modules/testkit/")
    }

    /// The lines before an inline test module, numbered from 1.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.inline_tests_start().unwrap_or(self.lines.len());
        self.lines[..end].iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }

    pub fn inline_tests_start(&self) -> Option<usize> {
        let start = self.lines.iter().position(|line| line == "#[cfg(test)]")?;
        self.lines[start..].iter().any(|line| line.starts_with("mod tests {")).then_some(start)
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "modules", "datasets", "tests", "benches"] {
        collect(&root().join(folder), &mut files);
    }
    assert!(files.len() > 20, "the sources were not found");
    files.sort();
    files.into_iter().map(read_source).collect()
}

/// All files and folders of the repository, from its root.
pub fn files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            if [".git", "target"].contains(&&*name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            }
            found.insert(name);
        }
    }
    found
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn read_source(path: PathBuf) -> Source {
    let text = std::fs::read_to_string(&path).expect("a source is text");
    let path = path.strip_prefix(root()).expect("found below the root").to_string_lossy().into_owned();
    Source { path, lines: text.lines().map(str::to_owned).collect() }
}

pub fn manifests() -> Vec<PathBuf> {
    let mut found = vec![
        root().join("Cargo.toml"),
        root().join("benches/Cargo.toml"),
        root().join("datasets/Cargo.toml"),
    ];
    for folder in ["src", "modules"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("the folder is there") {
            let manifest = entry.expect("the folder can be read").path().join("Cargo.toml");
            if manifest.exists() {
                found.push(manifest);
            }
        }
    }
    found
}
