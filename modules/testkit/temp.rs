//! Temporary directories of tests.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// If this variable is set, the directories of tests are kept for inspection.
pub const KEEP_VARIABLE: &str = "ENGRAMDB_KEEP_TEST_DIRECTORIES";

/// A new, empty directory for one test. It is removed with its content when this is dropped, whether the test
/// succeeds or not.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// `name` becomes a part of the path, for people.
    pub fn new(name: &str) -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("engramdb-{name}-{}-{number}", process::id()));
        // A killed process with the same id may have left one.
        _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Deref for TempDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for TempDir {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::env::var_os(KEEP_VARIABLE).is_some() {
            eprintln!("kept {}", self.0.display());
        } else {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_even_when_its_test_fails() {
        let paths = std::sync::Mutex::new(Vec::new());
        let failed = std::panic::catch_unwind(|| {
            let [one, other] = [TempDir::new("same"), TempDir::new("same")];
            std::fs::write(one.join("file"), "content").expect("it is writable");
            paths.lock().expect("no test holds it").extend([one.to_owned(), other.to_owned()]);
            panic!("as a test that fails");
        });
        let paths = paths.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        assert!(failed.is_err() && paths.len() == 2 && paths[0] != paths[1]);
        let is_kept = std::env::var_os(KEEP_VARIABLE).is_some();
        assert!(paths.iter().all(|path| path.exists() == is_kept), "{paths:?}");
    }
}
