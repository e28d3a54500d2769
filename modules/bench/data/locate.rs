//! Finds the data sets of the repository independently of the working directory.

use std::path::{Path, PathBuf};

/// Returns the path itself if it exists. Otherwise a relative path is looked for, as it is and below
/// `datasets`, in the parents of the working directory, in the parents of the program, and in the repository
/// that the program was built from. A path that is not found is returned unchanged.
pub fn locate(given: &Path) -> PathBuf {
    if given.is_absolute() || given.exists() {
        return given.to_owned();
    }
    let current = std::env::current_dir().ok();
    let program = std::env::current_exe().ok();
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let roots = [current.as_deref(), program.as_deref(), Some(built)];
    first_below(roots.into_iter().flatten().flat_map(Path::ancestors), given)
        .unwrap_or_else(|| given.to_owned())
}

fn first_below<'r>(mut roots: impl Iterator<Item = &'r Path>, given: &Path) -> Option<PathBuf> {
    roots.find_map(|root| {
        [root.join(given), root.join("datasets").join(given)].into_iter().find(|path| path.exists())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_is_found_by_its_path_and_by_its_name() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let expected = repository.join("datasets/rustdoc-minilm-10k");
        for given in ["datasets/rustdoc-minilm-10k", "rustdoc-minilm-10k"] {
            assert_eq!(locate(Path::new(given)).canonicalize().unwrap(), expected);
            let roots = repository.join("modules/bench/data");
            assert_eq!(first_below(roots.ancestors(), Path::new(given)).as_ref(), Some(&expected));
        }
        assert_eq!(locate(Path::new("no/such/set")), Path::new("no/such/set"));
        assert_eq!(first_below(Path::new("/").ancestors(), Path::new("no/such/set")), None);
    }
}
