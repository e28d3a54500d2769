//! A server with this module, on an ephemeral port.

use engramdb_engine::env::Env;
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::{LogId, ShardLog};
use engramdb_resp::{Protocol, Value};
use engramdb_script::{COMMANDS, ScriptModule};
use engramdb_server::{Config, Hooks, NoSnapshots, Server};
use engramdb_testkit::run::open_engine;
use engramdb_testkit::tcp::Client;
use engramdb_testkit::words::split_words;
use std::sync::Arc;
use std::time::Duration;

pub struct Scripted {
    log: Arc<dyn ShardLog>,
    is_stalled: bool,
    configure: fn(&mut Config),
    server: Option<Server>,
}

impl Scripted {
    pub fn start() -> Scripted {
        Scripted::with(|_| ())
    }

    pub fn with(configure: fn(&mut Config)) -> Scripted {
        Scripted::launch(false, configure)
    }

    /// Nothing becomes durable before [`Scripted::sync`].
    pub fn stalled() -> Scripted {
        Scripted::launch(true, |_| ())
    }

    fn launch(is_stalled: bool, configure: fn(&mut Config)) -> Scripted {
        let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([9; 16])));
        let server = Some(open(&log, is_stalled, configure));
        Scripted { log, is_stalled, configure, server }
    }

    pub fn restart(&mut self) {
        self.stop();
        self.server = Some(open(&self.log, self.is_stalled, self.configure));
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("running between restarts")
    }

    pub fn sync(&self) {
        self.server().engine().pipeline().pump();
    }

    pub fn client(&self) -> Client {
        self.client_of(Protocol::Resp2)
    }

    pub fn client_of(&self, protocol: Protocol) -> Client {
        Client::connect(&self.server().addresses()[0].to_string(), protocol)
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
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop();
    }
}

fn open(log: &Arc<dyn ShardLog>, is_stalled: bool, configure: fn(&mut Config)) -> Server {
    let mut config = Config { port: 0, threads: 1, ..Config::default() };
    configure(&mut config);
    let options = Options { log_thread: !is_stalled, ..Options::default() };
    let modules = vec![Box::new(ScriptModule::default()) as Box<_>];
    let (engine, _) = open_engine(&Env::system(), log.clone(), config.databases, modules, options);
    let hooks = Hooks { signals: false, ..Hooks::new(Arc::new(NoSnapshots)) };
    Server::start(config, Arc::new(engine), &[COMMANDS], hooks).expect("a free port")
}

/// Runs a line of words, and returns the reply as text.
pub fn run(client: &mut Client, line: &str) -> String {
    show(&client.run(&split_words(line)))
}

/// Runs EVAL without keys and arguments.
pub fn eval(client: &mut Client, script: &str) -> String {
    show(&client.run(&["EVAL", script, "0"]))
}

pub fn show(reply: &Value) -> String {
    format!("{reply:?}")
}

/// Repeats a command until its reply has this text in it.
pub fn await_reply(client: &mut Client, words: &[&str], wanted: &str) -> String {
    loop {
        let reply = show(&client.run(words));
        if reply.contains(wanted) {
            return reply;
        }
    }
}

/// Whether the reply of a command that was sent is there.
pub fn is_silent(client: &mut Client) -> bool {
    client.receive_within(Duration::from_millis(60)).is_none()
}
