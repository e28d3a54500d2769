//! Programs and directories of the Cargo build that runs the tests.

use std::path::{Path, PathBuf};

/// The directory of the profile with which the tests were built: `target/debug`.
///
/// # Panics
/// If the running program is not a test that Cargo or nextest runs.
fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().expect("the system knows the running program");
    let deps = test.parent().filter(|directory| directory.ends_with("deps"));
    let directory =
        deps.and_then(Path::parent).unwrap_or_else(|| panic!("{test:?} is not below target/*/deps"));
    directory.to_owned()
}

/// The program `engramdb`. Cargo builds it before it runs tests of the package `engramdb`.
///
/// # Panics
/// If it is not there: a test of another package asked for it.
pub fn binary() -> PathBuf {
    let path = profile_directory().join("engramdb");
    assert!(path.is_file(), "{} was not built: run tests of the package engramdb", path.display());
    path
}

/// A directory of the build for what tests download, kept from run to run (`target/tmp`).
pub fn scratch() -> PathBuf {
    let profile = profile_directory();
    profile.parent().expect("the profile's directory lies in the target directory").join("tmp")
}
