//! A server on an ephemeral port, and a client that can tell silence from an answer.

use engramdb_engine::command::Command;
use engramdb_engine::env::Env;
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::replay::Checkpoint;
use engramdb_engine::log::{LogId, ShardLog};
use engramdb_engine::recovery::Recovering;
use engramdb_server::{Config, Hooks, NoSnapshots, Server};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

pub struct TestServer {
    server: Option<Server>,
    pub address: SocketAddr,
}

impl TestServer {
    pub fn start() -> TestServer {
        TestServer::with(|_| ())
    }

    pub fn with(configure: impl FnOnce(&mut Config)) -> TestServer {
        TestServer::launch(configure, Options::default())
    }

    /// Nothing becomes durable before [`TestServer::sync`].
    pub fn stalled() -> TestServer {
        TestServer::launch(|_| (), Options { log_thread: false, ..Options::default() })
    }

    fn launch(configure: impl FnOnce(&mut Config), options: Options) -> TestServer {
        TestServer::over(Arc::new(MemoryLog::new(LogId([9; 16]))), configure, options)
    }

    /// One worker, and commands of a module.
    pub fn with_commands(commands: &'static [Command]) -> TestServer {
        let log = Arc::new(MemoryLog::new(LogId([9; 16])));
        TestServer::of(log, |config| config.threads = 1, Options::default(), &[commands])
    }

    pub fn over(log: Arc<dyn ShardLog>, configure: impl FnOnce(&mut Config), options: Options) -> TestServer {
        TestServer::of(log, configure, options, &[])
    }

    pub fn of(
        log: Arc<dyn ShardLog>,
        configure: impl FnOnce(&mut Config),
        options: Options,
        commands: &[&'static [Command]],
    ) -> TestServer {
        let mut config = Config { port: 0, threads: 2, ..Config::default() };
        configure(&mut config);
        let mut recovering = Recovering::new(Env::system(), config.databases, Vec::new());
        let recovered = recovering.replay(&*log, Checkpoint::default(), |_| ()).expect("an empty log");
        let (engine, _) = recovering.start(log, &recovered, options).expect("the only writer");
        let hooks = Hooks { signals: false, ..Hooks::new(Arc::new(NoSnapshots)) };
        let server = Server::start(config, Arc::new(engine), commands, hooks).expect("a free port");
        let address = server.addresses()[0];
        TestServer { server: Some(server), address }
    }

    /// Makes everything durable that was written so far.
    pub fn sync(&self) {
        self.server.as_ref().expect("running").engine().pipeline().pump();
    }

    /// Waits until so many batches were written, durable or not.
    pub fn wait_for_batches(&self, batches: u64) {
        let pipeline = self.server.as_ref().expect("running").engine().pipeline();
        while pipeline.last_lsn().0 < batches {
            std::thread::yield_now();
        }
    }

    pub fn client(&self) -> TestClient {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        TestClient { stream }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let server = self.server.take().expect("running");
        server.stop();
        if !std::thread::panicking() {
            server.wait().expect("a clean stop");
        }
    }
}

pub struct TestClient {
    pub stream: TcpStream,
}

/// Long enough for a reply that is allowed to leave, on a busy machine. Nothing is asserted about less.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long silence has to last to count. A held reply that left would arrive well within.
const SILENCE: Duration = Duration::from_millis(60);

impl TestClient {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Sends a command given as words.
    pub fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.send(bytes);
    }

    /// The reply's raw text must be this.
    #[track_caller]
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut found = vec![0; expected.len()];
        let mut filled = 0;
        while filled < found.len() {
            match self.stream.read(&mut found[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) => {
                    panic!("{error}, after {:?}", String::from_utf8_lossy(&found[..filled]));
                }
            }
            if !expected.starts_with(&found[..filled]) {
                break;
            }
        }
        assert_eq!(String::from_utf8_lossy(&found[..filled]), String::from_utf8_lossy(expected));
    }

    #[track_caller]
    pub fn call(&mut self, line: &str, expected: &str) {
        self.command(line);
        self.expect(expected);
    }

    /// Everything until the server closes the connection.
    pub fn rest(&mut self) -> String {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&bytes)),
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Nothing must arrive.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        self.stream.set_read_timeout(Some(SILENCE)).expect("a socket");
        let mut bytes = [0; 256];
        match self.stream.read(&mut bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(count) => {
                panic!("a reply left that had to wait: {:?}", String::from_utf8_lossy(&bytes[..count]))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub fn line(&mut self) -> String {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a line");
            bytes.push(byte[0]);
        }
        String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()
    }
}
