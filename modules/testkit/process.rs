//! Helpers for tests of the real binary: a server process in its own directory, and a blocking client.

pub use crate::TempDir;

use crate::built;
use engramdb_resp::{CommandLink, Value, encode_command_into};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program, without the environment variables that tests read: `serve` refuses unknown ones.
pub fn program() -> Command {
    without_our_variables(Command::new(built::binary()))
}

fn without_our_variables(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ENGRAMDB_")) {
        command.env_remove(name);
    }
    command
}

/// `engramdb serve` on a free port.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Starts the server and waits until it answers.
    pub fn start(directory: &Path, arguments: &[&str]) -> Server {
        Server::start_as(program(), directory, arguments)
    }

    /// The same; its output goes to a file of its own instead of `server.log` in the directory, whose disk
    /// can be full.
    pub fn start_writing(directory: &Path, output: &Path) -> Server {
        Server::start_to(program(), directory, &[], output)
    }

    /// The same with a limit of open files.
    pub fn start_limited(directory: &Path, arguments: &[&str], files_max: u32) -> Server {
        let mut shell = without_our_variables(Command::new("sh"));
        let script = format!("ulimit -n {files_max} && exec \"$0\" \"$@\"");
        shell.args(["-c", &script]).arg(built::binary());
        Server::start_as(shell, directory, arguments)
    }

    /// The same as a member of a control group, whose list of processes this is.
    pub fn start_in_group(directory: &Path, arguments: &[&str], processes: &Path) -> Server {
        let mut shell = without_our_variables(Command::new("sh"));
        let script = format!("echo $$ > {} && exec \"$0\" \"$@\"", processes.display());
        shell.args(["-c", &script]).arg(built::binary());
        Server::start_as(shell, directory, arguments)
    }

    fn start_as(command: Command, directory: &Path, arguments: &[&str]) -> Server {
        Server::start_to(command, directory, arguments, &directory.join("server.log"))
    }

    fn start_to(mut command: Command, directory: &Path, arguments: &[&str], output: &Path) -> Server {
        let port = free_port();
        let log = std::fs::File::create(output).expect("its directory is writable");
        let child = command
            .args(["serve", "--port", &port.to_string(), "--dir"])
            .arg(directory)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("the binary was built with the tests");
        let mut server = Server { child, port };
        let deadline = Instant::now() + PATIENCE;
        while Client::connect(port).and_then(|mut client| client.call(&["PING"])).is_err() {
            if server.child.try_wait().expect("a child can be asked").is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(output).unwrap_or_default();
                panic!("the server did not start:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        server
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port).expect("the server listens")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Sends SHUTDOWN and waits for the end; true if the exit status is 0.
    pub fn shut_down(mut self) -> bool {
        self.client().send(&[&["SHUTDOWN"]]).expect("the server listens");
        let status = self.child.wait().expect("our own child");
        if !status.success() {
            eprintln!("the server ended with {status}");
        }
        status.success()
    }

    /// Waits until the process ends; returns its exit code.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("our own child").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Longer than any expected event takes on a busy machine. Tests never assert a shorter time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for a condition without an event: the end of a process, a counter of another process.
///
/// # Panics
/// With the complaint, if the condition does not become true.
pub fn until(complaint: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{complaint}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// One connection, one command or pipeline at a time.
pub struct Client {
    link: CommandLink<TcpStream>,
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client { link: CommandLink::new(stream) })
    }

    pub fn call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<Value> {
        self.send(&[command])?;
        self.receive()
    }

    /// Sends commands in one write.
    pub fn send<A: AsRef<[u8]>>(&mut self, commands: &[&[A]]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for command in commands {
            encode_command_into(&mut bytes, command);
        }
        self.send_raw(&bytes)
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.link.send(bytes)
    }

    pub fn receive(&mut self) -> io::Result<Value> {
        self.link.reply()
    }

    /// True once the server has closed the connection.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.receive(), Err(error) if error.kind() != io::ErrorKind::WouldBlock)
    }
}

/// A standard output that fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BadOutput {
    /// A pipe whose reader is gone.
    Closed,
    /// A device that is full.
    Full,
}

impl BadOutput {
    /// Runs the program with this output; returns its exit status and its standard error.
    pub fn run(self, command: &mut Command) -> (Option<i32>, String) {
        let output = match self {
            BadOutput::Closed => Stdio::from(io::pipe().expect("a pipe can be made").1),
            BadOutput::Full => {
                Stdio::from(std::fs::File::options().write(true).open("/dev/full").expect("it is there"))
            }
        };
        let child = command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped()).spawn();
        let output = child.and_then(Child::wait_with_output).expect("the binary was built with the tests");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The exit status of a command that succeeds except for its output, and its complete standard error.
    pub fn outcome(self) -> (Option<i32>, String) {
        match self {
            BadOutput::Closed => (Some(128 + 13), String::new()),
            BadOutput::Full => {
                let line =
                    "engramdb: cannot write to the standard output: No space left on device (os error 28)\n";
                (Some(1), line.to_owned())
            }
        }
    }
}
