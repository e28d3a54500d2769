//! A server that a run starts: this program as another process, so that it can be measured from outside,
//! stopped and killed.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use engramdb_resp::encode_command;

use crate::client::{Connection, ServerTarget};
use crate::error::BenchError;
use crate::interrupt::{self, Undo};
use crate::machine::Process;

/// The interval of checks whether a server answers. Starts are timed with it, so it is short.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

pub(crate) struct ServerProcess {
    /// Shared with the action that cleans up an interrupted run.
    child: Arc<Mutex<Child>>,
    directory: PathBuf,
    /// The directory was created here, and is removed after the run.
    is_temporary: bool,
    port: u16,
    undo: Option<Undo>,
}

impl ServerProcess {
    /// Starts a server, by default in a new directory named after the run and on a free port.
    pub(crate) fn start(
        run: &str,
        directory: Option<PathBuf>,
        port: Option<u16>,
    ) -> Result<Self, BenchError> {
        let is_temporary = directory.is_none();
        let directory = directory.unwrap_or_else(|| new_directory(run));
        let port = match port {
            Some(port) => port,
            None => TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        };
        let (child, undo) = Undo::make(|| {
            std::fs::create_dir_all(&directory)
                .map_err(|source| BenchError::Write { path: directory.clone(), source })?;
            let child = Arc::new(Mutex::new(spawn(&directory, port)?));
            let (shared, directory) = (child.clone(), directory.clone());
            Ok((child, Box::new(move || discard(&shared, is_temporary.then_some(&directory)))))
        })?;
        Ok(ServerProcess { child, directory, is_temporary, port, undo: Some(undo) })
    }

    pub(crate) fn command_line(&self) -> String {
        format!("engramdb serve --dir {} --port {}", self.directory.display(), self.port)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn process(&self) -> Result<Process, BenchError> {
        Process::with_pid(lock(&self.child).id())
    }

    pub(crate) fn target(&self) -> ServerTarget {
        ServerTarget { host: "127.0.0.1".into(), port: self.port, user: None, password: None, resp: 2 }
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        log_path(&self.directory)
    }

    /// Waits until the server answers PING.
    pub(crate) fn wait_ready(&mut self, timeout: Duration) -> Result<Connection, BenchError> {
        let target = self.target();
        let deadline = Instant::now() + timeout;
        loop {
            let ready = Connection::open(&target).and_then(|mut connection| {
                connection.command(&["PING"])?;
                Ok(connection)
            });
            match ready {
                Ok(connection) => return Ok(connection),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) if lock(&self.child).try_wait()?.is_some() => {
                    let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
                    return Err(BenchError::Usage(format!("the server stopped by itself:\n{log}")));
                }
                Err(_) => std::thread::sleep(POLL_INTERVAL),
            }
        }
    }

    /// Sends SIGKILL: the process cannot save anything.
    pub(crate) fn kill(&mut self) -> Result<(), BenchError> {
        let mut child = lock(&self.child);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    pub(crate) fn restart(&mut self) -> Result<(), BenchError> {
        let mut child = lock(&self.child);
        if interrupt::is_interrupted() {
            return Err(BenchError::Interrupted);
        }
        *child = spawn(&self.directory, self.port)?;
        Ok(())
    }

    /// Prints what the server wrote at its last start.
    pub(crate) fn show_last_start(&self) -> Result<(), BenchError> {
        for line in std::fs::read_to_string(self.log_path())?.lines() {
            outln!("    {line}");
        }
        Ok(())
    }

    /// Shuts the server down cleanly; the directory stays. `SAVE` among the options makes a snapshot too.
    pub(crate) fn shut_down(
        &mut self,
        connection: &mut Connection,
        options: &[&str],
    ) -> Result<(), BenchError> {
        connection.send(&encode_command(&[&["SHUTDOWN"], options].concat()))?;
        // The lock is not held while the server stops: the clean-up of an interrupted run does not wait for
        // it.
        let status = loop {
            match { lock(&self.child).try_wait()? } {
                Some(status) => break status,
                None => std::thread::sleep(POLL_INTERVAL),
            }
        };
        match status.success() {
            true => Ok(()),
            false => {
                let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
                Err(BenchError::Usage(format!("the server did not stop in order:\n{log}")))
            }
        }
    }

    /// Shuts the server down cleanly, and removes the directory if it was created here.
    pub(crate) fn stop(mut self, mut connection: Connection) -> Result<(), BenchError> {
        self.shut_down(&mut connection, &[])?;
        if self.is_temporary {
            std::fs::remove_dir_all(&self.directory)?;
        }
        self.undo = None;
        Ok(())
    }
}

impl Drop for ServerProcess {
    /// A run that fails leaves no server running; its data stay for inspection. An interrupted run is cleaned
    /// up elsewhere.
    fn drop(&mut self) {
        if self.undo.is_some() && !interrupt::is_interrupted() {
            discard(&self.child, None);
            note!("the server's data and its log are left in {}", self.directory.display());
        }
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Kills the server, and removes its directory if that is temporary. Returns a description of what was done.
fn discard(child: &Mutex<Child>, directory: Option<&PathBuf>) -> String {
    let mut child = lock(child);
    let pid = child.id();
    _ = child.kill();
    _ = child.wait();
    let Some(directory) = directory else { return format!("stopped the server {pid}") };
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            format!("stopped the server {pid}; its directory {} is left: {error}", directory.display())
        }
        _ => format!("stopped the server {pid} and removed {}", directory.display()),
    }
}

fn new_directory(run: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("engramdb-{run}-{}-{number}", std::process::id()))
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
