//! Real servers for comparison: `redis-server` 8.2.3 with the modules RediSearch 2.10.5 and RedisJSON 2.8.3,
//! and `valkey-server` 9.1.2.

use crate::packages;
use crate::process::{TempDir, free_port};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server; dropping this value ends it.
pub struct Oracle {
    child: Child,
    pub port: u16,
    _directory: TempDir,
}

impl Oracle {
    /// `redis-server` with the modules.
    ///
    /// # Panics
    /// If this machine cannot run it, or PyPI cannot be reached: a check that did not take place must not
    /// succeed.
    pub fn start() -> Oracle {
        Oracle::start_on(b"")
    }

    /// The same, which loads an RDB file with this content, if it has any.
    ///
    /// # Panics
    /// As [`Oracle::start`], and if the server cannot load the file.
    pub fn start_on(file: &[u8]) -> Oracle {
        let [server, search, json] = packages::redisearch();
        Oracle::run(&server, &[search, json], file)
    }

    /// `valkey-server`.
    ///
    /// # Panics
    /// See [`Oracle::start`].
    pub fn valkey() -> Oracle {
        Oracle::run(&packages::valkey(), &[], b"")
    }

    fn run(server: &Path, modules: &[PathBuf], file: &[u8]) -> Oracle {
        let (directory, port) = (TempDir::new("oracle"), free_port());
        if !file.is_empty() {
            std::fs::write(directory.path().join("dump.rdb"), file).expect("the directory is writable");
        }
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
        command.arg(directory.path());
        modules.iter().for_each(|module| _ = command.arg("--loadmodule").arg(module));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut oracle = Oracle { child, port, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let has_ended = oracle.child.try_wait().expect("our own child").is_some();
            if has_ended || Instant::now() > deadline {
                panic!(
                    "{} did not start:\n{}",
                    server.display(),
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
