//! The demo's server: this same program as a process of its own, so that it can be killed.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engramdb_resp::encode_command;

use crate::client::{Connection, Target};
use crate::error::BenchError;

pub(super) struct ServerProcess {
    child: Child,
    directory: PathBuf,
    /// The directory was made here, and goes with the demo.
    is_temporary: bool,
    port: u16,
}

impl ServerProcess {
    pub(super) fn start(directory: Option<PathBuf>, port: Option<u16>) -> Result<Self, BenchError> {
        let is_temporary = directory.is_none();
        let directory = directory
            .unwrap_or_else(|| std::env::temp_dir().join(format!("engramdb-demo-{}", std::process::id())));
        std::fs::create_dir_all(&directory)
            .map_err(|source| BenchError::Write { path: directory.clone(), source })?;
        let port = match port {
            Some(port) => port,
            None => TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        };
        let child = spawn(&directory, port)?;
        Ok(ServerProcess { child, directory, is_temporary, port })
    }

    pub(super) fn command_line(&self) -> String {
        format!("engramdb serve --dir {} --port {}", self.directory.display(), self.port)
    }

    pub(super) fn log_path(&self) -> PathBuf {
        log_path(&self.directory)
    }

    /// Waits until the server answers PING.
    pub(super) fn wait_ready(&mut self, timeout: Duration) -> Result<Connection, BenchError> {
        let target =
            Target { host: "127.0.0.1".into(), port: self.port, user: None, password: None, resp: 2 };
        let deadline = Instant::now() + timeout;
        loop {
            let ready = Connection::open(&target).and_then(|mut connection| {
                connection.command(&["PING"])?;
                Ok(connection)
            });
            match ready {
                Ok(connection) => return Ok(connection),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) if self.child.try_wait()?.is_some() => {
                    let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
                    return Err(BenchError::Usage(format!("the server stopped by itself:\n{log}")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// SIGKILL: the process gets no chance to save anything.
    pub(super) fn kill(&mut self) -> Result<(), BenchError> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(super) fn restart(&mut self) -> Result<(), BenchError> {
        self.child = spawn(&self.directory, self.port)?;
        Ok(())
    }

    /// Prints what the server wrote at its last start.
    pub(super) fn show_last_start(&self) -> Result<(), BenchError> {
        for line in std::fs::read_to_string(self.log_path())?.lines() {
            println!("    {line}");
        }
        Ok(())
    }

    /// Stops the server in order, and removes a directory that was made for it.
    pub(super) fn stop(mut self, mut connection: Connection) -> Result<(), BenchError> {
        connection.send(&encode_command(&["SHUTDOWN"]))?;
        self.child.wait()?;
        if self.is_temporary {
            std::fs::remove_dir_all(&self.directory)?;
        }
        Ok(())
    }
}

impl Drop for ServerProcess {
    /// A demo that fails half-way leaves no server behind; its data stays, for a look.
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("server.log")
}

fn spawn(directory: &Path, port: u16) -> Result<Child, BenchError> {
    let path = log_path(directory);
    let failed = |source| BenchError::Write { path: path.clone(), source };
    let log: File = OpenOptions::new().create(true).write(true).truncate(true).open(&path).map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    Ok(Command::new(std::env::current_exe()?)
        .args(["serve", "--port", &port.to_string(), "--dir"])
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()?)
}
