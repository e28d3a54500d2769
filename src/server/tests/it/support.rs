//! A server on an ephemeral port, over a log in memory.

use engramdb_engine::command::Command;
use engramdb_engine::env::Env;
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::{LogId, ShardLog};
use engramdb_server::{Config, Hooks, NoSnapshots, Server};
pub use engramdb_testkit::raw::RawClient as TestClient;
use engramdb_testkit::run::open_engine;
use std::net::SocketAddr;
use std::sync::Arc;

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
        TestServer::with_commands_and(commands, |_| ())
    }

    /// The same with another configuration.
    pub fn with_commands_and(
        commands: &'static [Command],
        configure: impl FnOnce(&mut Config),
    ) -> TestServer {
        let log = Arc::new(MemoryLog::new(LogId([9; 16])));
        let configure = |config: &mut Config| {
            config.threads = 1;
            configure(config);
        };
        TestServer::of(log, configure, Options::default(), &[commands])
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
        let (engine, _) = open_engine(&Env::system(), log, config.databases, Vec::new(), options);
        let hooks = Hooks { signals: false, ..Hooks::new(Arc::new(NoSnapshots)) };
        let server = Server::start(config, Arc::new(engine), commands, hooks).expect("a free port");
        let address = server.addresses()[0];
        TestServer { server: Some(server), address }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("running")
    }

    /// Makes everything durable that was written so far.
    pub fn sync(&self) {
        self.server().engine().pipeline().pump();
    }

    /// Waits until `batches` batches were written, durable or not.
    pub fn wait_for_batches(&self, batches: u64) {
        let pipeline = self.server().engine().pipeline();
        while pipeline.last_lsn().0 < batches {
            std::thread::yield_now();
        }
    }

    pub fn client(&self) -> TestClient {
        TestClient::connect(self.address)
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
