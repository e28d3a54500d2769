//! Requirements of tests on the machine, beyond a Rust toolchain, and their treatment if they are missing.
//!
//! A test whose requirement is missing fails, with a text that names it. For a machine that cannot have it,
//! the variable [`WITHOUT`] lists it: then the tests that need it are skipped, and each writes a line
//! `SKIPPED` to the output, which `.ci/run` counts at its end. So no test is skipped unless the user asks for
//! it.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A variable with a comma-separated list of requirements that this machine does not meet: `packages`,
/// `root`.
pub const WITHOUT: &str = "ENGRAMDB_TEST_WITHOUT";

/// A requirement of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Third-party programs on Linux on x86-64: Python, and packages of Debian and PyPI, which the tests
    /// install.
    Packages,
    /// Root rights, for mounts on loop devices and control groups.
    Root,
}

impl Need {
    const ALL: [Need; 2] = [Need::Packages, Need::Root];

    fn name(self) -> &'static str {
        match self {
            Need::Packages => "packages",
            Need::Root => "root",
        }
    }

    /// True if [`WITHOUT`] lists this, so that the calling test must be skipped; writes the line `SKIPPED`.
    ///
    /// # Panics
    /// If the variable names something that no test needs.
    pub fn is_missing(self) -> bool {
        let without = std::env::var(WITHOUT).unwrap_or_default();
        if !self.is_in(&without) {
            return false;
        }
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        // Not by a macro, whose output the test runner captures.
        let line = format!("SKIPPED {test}: {WITHOUT} names {}\n", self.name());
        std::io::stderr().write_all(line.as_bytes()).expect("the standard error takes a line");
        true
    }

    fn is_in(self, list: &str) -> bool {
        let mut found = false;
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let known = Need::ALL.iter().find(|need| need.name() == name);
            let known = known.unwrap_or_else(|| panic!("{WITHOUT}: {name:?} is neither packages nor root"));
            found |= *known == self;
        }
        found
    }

    /// Ends a test that cannot run.
    ///
    /// # Panics
    /// Always.
    pub fn fail(self, cause: &str) -> ! {
        let name = self.name();
        panic!(
            "{cause}\nOn a machine that cannot have what this test needs, {WITHOUT}={name} leaves out all tests \
             that need it, and the output names each."
        )
    }
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A program. If it is missing, and this is root on Debian, its package is installed first.
///
/// # Panics
/// If the program cannot be found or installed.
pub fn program(name: &str, package: &str) -> PathBuf {
    if let Some(path) = find_program(name) {
        return path;
    }
    let _one_at_a_time = super::packages::lock();
    if find_program(name).is_none() {
        install(package);
    }
    find_program(name).unwrap_or_else(|| Need::Packages.fail(&format!("{package} has no {name}")))
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The folders of administrators' programs are not in everyone's path.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Installs a package of Debian.
///
/// # Panics
/// If that is impossible.
pub(crate) fn install(package: &str) {
    if !is_root() || find_program("apt-get").is_none() {
        Need::Packages.fail(&format!("Debian's package {package} is needed: apt-get install {package}"));
    }
    let update = run(Command::new("apt-get").args(["update", "-qq"]));
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "-qq", package]);
    if let Err(cause) = update.and_then(|_| run(&mut install)) {
        Need::Packages.fail(&format!("{package} cannot be installed: {cause}"));
    }
}

/// Runs a command to its end. Returns its output, as an error if it failed.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    if output.status.success() {
        Ok(printed)
    } else {
        Err(format!("{command:?}: {}: {printed}", output.status))
    }
}

/// The file of that name below a directory.
pub(crate) fn find_file(directory: &Path, name: &str) -> Option<PathBuf> {
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).ok()?.flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => open.push(path),
                false if path.file_name().is_some_and(|found| found == name) => return Some(path),
                false => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_what_is_missing_and_nothing_else() {
        let missing = |list| Need::ALL.map(|need| need.is_in(list));
        assert_eq!(missing(""), [false, false]);
        assert_eq!(missing("root"), [false, true]);
        assert_eq!(missing(" packages , root,"), [true, true]);
        let unknown = std::panic::catch_unwind(|| missing("root,loop")).expect_err("no test needs `loop`");
        let text = unknown.downcast::<String>().expect("a text");
        assert_eq!(*text, "ENGRAMDB_TEST_WITHOUT: \"loop\" is neither packages nor root");
    }

    #[test]
    fn a_test_that_cannot_run_fails_and_says_how_to_leave_it_out() {
        let failed = std::panic::catch_unwind(|| Need::Root.fail("No loop device.")).expect_err("it fails");
        let text = failed.downcast::<String>().expect("a text");
        assert!(
            text.starts_with("No loop device.\n") && text.contains("ENGRAMDB_TEST_WITHOUT=root"),
            "{text}"
        );
    }
}
