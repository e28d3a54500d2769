//! The server with its search module, in this process and over TCP, with a log in memory whose sync can be
//! held back, and a stopped clock.
//!
//! Active expiry is off: expired keys stay until [`Served::expire_due`], so that tests see how reads treat
//! them.

use engramdb_engine::Engine;
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::{LogId, Lsn, ShardLog};
use engramdb_resp::{Protocol, Value};
use engramdb_search::{SearchModule, SearchOptions};
use engramdb_server::{Config, Hooks, NoSnapshots, Server};
use engramdb_sim::env::SimEnv;
use engramdb_testkit::instance::START_MS;
use engramdb_testkit::run::open_engine;
use engramdb_testkit::tcp::Client;
use engramdb_testkit::words::split_words;
use std::sync::Arc;
use std::time::Duration;

pub struct Served {
    sim: SimEnv,
    log: Arc<dyn ShardLog>,
    /// Whether nothing becomes durable before [`Served::sync`].
    is_stalled: bool,
    configure: fn(&mut Config),
    /// Gone only during a restart.
    server: Option<Server>,
}

impl Served {
    pub fn start() -> Served {
        Served::launch(false, |_| ())
    }

    /// With another configuration than the default.
    pub fn with(configure: fn(&mut Config)) -> Served {
        Served::launch(false, configure)
    }

    /// Nothing becomes durable before [`Served::sync`].
    pub fn stalled() -> Served {
        Served::launch(true, |_| ())
    }

    /// The same with another configuration than the default.
    pub fn stalled_with(configure: fn(&mut Config)) -> Served {
        Served::launch(true, configure)
    }

    fn launch(is_stalled: bool, configure: fn(&mut Config)) -> Served {
        let sim = SimEnv::new(1);
        sim.clock.set_wall_ms(START_MS);
        let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([9; 16])));
        let server = Some(open(&sim, &log, is_stalled, configure));
        Served { sim, log, is_stalled, configure, server }
    }

    /// Stops in order and comes back from the log. Connections end.
    pub fn restart(&mut self) {
        self.stop();
        self.server = Some(open(&self.sim, &self.log, self.is_stalled, self.configure));
    }

    fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
            let stopped = server.wait();
            if !std::thread::panicking() {
                stopped.expect("a clean stop");
            }
        }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("running between restarts")
    }

    pub fn engine(&self) -> &Engine {
        self.server().engine()
    }

    pub fn client(&self, protocol: Protocol) -> Client {
        Client::connect(&self.server().addresses()[0].to_string(), protocol)
    }

    /// Makes everything durable that was applied so far.
    pub fn sync(&self) {
        self.engine().pipeline().pump();
    }

    /// Runs a command line to its reply, syncing as often as that takes.
    pub fn settle(&self, client: &mut Client, line: &str) -> Value {
        client.send(&split_words(line));
        loop {
            self.sync();
            if let Some(reply) = client.receive_within(Duration::from_millis(1)) {
                return reply;
            }
        }
    }

    /// Sends a write, and returns once it was applied. It is not durable if the server is stalled.
    pub fn apply(&self, client: &mut Client, line: &str) {
        let before = self.last_applied();
        client.send(&split_words(line));
        while self.last_applied() == before {
            std::thread::yield_now();
        }
    }

    fn last_applied(&self) -> Lsn {
        let run = self.engine().inspect();
        let view = run.view(0);
        view.whole_keyspace();
        view.gate().lsn()
    }

    pub fn advance_ms(&self, ms: u64) {
        self.sim.clock.advance_ms(ms);
    }

    /// Deletes what has expired, as the server does in the background.
    pub fn expire_due(&self) {
        while self.engine().expire_due(100).expect("a log in memory has room") > 0 {}
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

fn open(sim: &SimEnv, log: &Arc<dyn ShardLog>, is_stalled: bool, configure: fn(&mut Config)) -> Server {
    let mut config = Config { port: 0, threads: 2, active_expiry: false, ..Config::default() };
    configure(&mut config);
    let search = SearchOptions { directory: None, env: sim.env.clone(), offline: false, threads: 1 };
    let modules = vec![Box::new(SearchModule::new(search)) as _];
    let options = Options { log_thread: !is_stalled, ..Options::default() };
    let (engine, _) = open_engine(&sim.env, log.clone(), config.databases, modules, options);
    let hooks = Hooks { signals: false, ..Hooks::new(Arc::new(NoSnapshots)) };
    Server::start(config, Arc::new(engine), &[engramdb_search::COMMANDS], hooks).expect("a free port")
}

/// A vector of float32 as a word of a command line.
pub fn vector_word(components: &[f32]) -> String {
    let bytes = components.iter().flat_map(|component| component.to_le_bytes());
    let digits: String = bytes.map(|byte| format!("\\x{byte:02x}")).collect();
    format!("\"{digits}\"")
}
