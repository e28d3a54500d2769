//! The server as a whole: worker threads, the listener, shutdown.
//!
//! Each worker is a thread with a runtime of its own, and a connection stays on the worker that it was given
//! to: its wake-ups are pushes to a local queue, and nothing of its hot path is shared but the engine. One
//! more thread, the shell, accepts connections, hands them out in turn, and does the background work.

use crate::acl::Acl;
use crate::announcer::Announcer;
use crate::clients::Clients;
use crate::commands;
use crate::config::Config;
use crate::context::{Limits, ServerContext, Stop, Stopping};
use crate::dispatch::check_handlers;
use crate::error::ServerError;
use crate::housekeeping;
use crate::latency::LatencyMonitor;
use crate::listener::Listeners;
use crate::output::gate::{Gate, Gates};
use crate::process;
use crate::pubsub::PubSub;
use crate::scripts::Scripts;
use crate::snapshots::Snapshotter;
use crate::stats::{Stats, WorkerStats};
use crate::tracking::Tracking;
use crate::worker::standby::Standby;
use crate::worker::{Incoming, NewWorker};
use engramdb_engine::Engine;
use engramdb_engine::command::{Command, Known};
use engramdb_engine::keyspace::EvictionPolicy;
use engramdb_engine::log::pipeline::Fatal;
use parking_lot::{Mutex, RwLock};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What the server needs of the program around it.
pub struct Hooks {
    pub snapshotter: Arc<dyn Snapshotter>,
    /// The log has failed: nothing more can become durable. The default logs and aborts; it must not return
    /// control to clients.
    pub log_failed: Box<dyn Fn(&Fatal) + Send + Sync>,
    /// Whether SIGTERM and SIGINT stop the server.
    pub signals: bool,
    /// CONFIG SET has changed something: for what the program itself keeps of the configuration, as its log's
    /// level.
    pub configured: Box<dyn Fn(&Config) + Send + Sync>,
    /// The bytes that the process has allocated, where its allocator counts them. Otherwise what keys,
    /// modules, users and clients take is estimated.
    pub allocated: Option<fn() -> usize>,
}

impl Hooks {
    pub fn new(snapshotter: Arc<dyn Snapshotter>) -> Hooks {
        Hooks {
            snapshotter,
            log_failed: Box::new(abort),
            signals: true,
            configured: Box::new(|_| ()),
            allocated: None,
        }
    }
}

/// Held replies must not leave: there is no unwinding, and no waiting for connections.
fn abort(fatal: &Fatal) {
    tracing::error!("{fatal}; stopping; a restart recovers what the log holds");
    std::process::abort();
}

/// Threads for commands that copy much: one that copies gigabytes does not keep all others waiting.
const COPY_THREADS: usize = 2;
/// The same for the reading of documents before their write.
const READING_THREADS: usize = 2;
/// Threads for large requests. What they do takes a fraction of a second at most.
const BUFFER_THREADS: usize = 2;

/// A running server.
pub struct Server {
    shared: Arc<ServerContext>,
    shell: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
    gates: Vec<Arc<Gate>>,
    standby: Arc<Standby>,
    standby_thread: JoinHandle<()>,
    /// Of the pools for long work.
    long: Vec<JoinHandle<()>>,
    /// Where there are modules.
    maintenance: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens and starts all threads. `module_commands` are the modules' tables.
    pub fn start(
        config: Config,
        engine: Arc<Engine>,
        module_commands: &[&'static [Command]],
        hooks: Hooks,
    ) -> Result<Server, ServerError> {
        let listeners = Listeners::bind(&config)?;
        Server::start_on(listeners, config, engine, module_commands, hooks)
    }

    /// Starts all threads on addresses that have been bound before.
    pub fn start_on(
        listeners: Listeners,
        mut config: Config,
        engine: Arc<Engine>,
        module_commands: &[&'static [Command]],
        mut hooks: Hooks,
    ) -> Result<Server, ServerError> {
        let listeners = listeners.listen()?;
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let threads = match config.threads {
            0 => default_threads(),
            threads => threads,
        };
        fit_clients(&mut config, threads)?;
        let search_threads = match config.search_threads {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            threads => threads,
        };
        let shared = Arc::new(share(config, engine, module_commands, &mut hooks, threads, addresses)?);
        Announcer::attach(&shared);
        commands::seed_users(&shared).map_err(ServerError::Users)?;
        let gates: Vec<Arc<Gate>> = (0..threads).map(|_| Arc::new(Gate::new())).collect();
        shared.engine.subscribe(Arc::new(Gates { workers: gates.clone(), failed: hooks.log_failed }));
        let mut incoming: Vec<Incoming> = Vec::new();
        let mut workers = Vec::new();
        let mut watched = Vec::new();
        let standby = Arc::new(Standby::new(shared.engine.env().clock.clone(), gates.clone()));
        for (number, gate) in gates.iter().cloned().enumerate() {
            let worker = NewWorker { shared: shared.clone(), gate, stats: shared.workers[number].clone() };
            let started = worker.start(number, standby.clone()).map_err(ServerError::Thread)?;
            incoming.push(started.incoming);
            workers.push(started.thread);
            watched.push((started.runtime, started.absence));
        }
        let standby_thread = standby.start(watched).map_err(ServerError::Thread)?;
        let long = shared.searches.start("search", search_threads).and_then(|mut long| {
            long.extend(shared.copies.start("copy", COPY_THREADS)?);
            long.extend(shared.readings.start("read", READING_THREADS)?);
            long.extend(shared.buffers.start("buffer", BUFFER_THREADS)?);
            Ok(long)
        });
        let long = long.map_err(ServerError::Thread)?;
        let maintenance = shared.has_modules.then(|| housekeeping::maintain(shared.clone())).transpose();
        let maintenance = maintenance.map_err(ServerError::Thread)?;
        let shell = housekeeping::start(shared.clone(), listeners, incoming, hooks.signals);
        let shell = shell.map_err(ServerError::Thread)?;
        Ok(Server { shared, shell, workers, gates, standby, standby_thread, long, maintenance })
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }

    #[cfg(test)]
    pub(crate) fn context(&self) -> &Arc<ServerContext> {
        &self.shared
    }

    /// Asks the server to stop, as SIGTERM does.
    pub fn stop(&self) {
        self.shared.ask_stop(Stop::default());
    }

    /// Waits until the server was asked to stop, sends what may leave, and closes the log. Nothing of the
    /// server holds the engine afterwards.
    pub fn wait(self) -> Result<Stop, ServerError> {
        // A panic of a thread has been reported by the panic hook.
        _ = self.shell.join();
        for worker in self.workers {
            _ = worker.join();
        }
        let pools = [&self.shared.searches, &self.shared.copies, &self.shared.readings, &self.shared.buffers];
        pools.into_iter().for_each(|pool| pool.close());
        for thread in self.long {
            _ = thread.join();
        }
        self.standby.close();
        _ = self.standby_thread.join();
        if let Some(maintenance) = self.maintenance {
            maintenance.thread().unpark();
            _ = maintenance.join();
        }
        self.gates.iter().for_each(|gate| gate.clear());
        self.shared.engine.close()?;
        Ok(self.shared.stop())
    }
}

fn share(
    config: Config,
    engine: Arc<Engine>,
    module_commands: &[&'static [Command]],
    hooks: &mut Hooks,
    threads: usize,
    addresses: Vec<SocketAddr>,
) -> Result<ServerContext, ServerError> {
    let mut table = commands::table(module_commands);
    for (from, to) in &config.renamed_commands {
        let renamed = table.rename(from, to);
        renamed.map_err(|cause| ServerError::Rename { from: from.clone(), to: to.clone(), cause })?;
    }
    check_handlers(&table);
    let mut names = Vec::new();
    table.iter().for_each(|known| name(known, &mut names));
    let latency = LatencyMonitor::new(config.latency_threshold_ms);
    let tracking = Tracking::new(config.tracked_keys_max);
    let (table, clients) = (Arc::new(table), Arc::<Clients>::default());
    let acl = Arc::new(Acl::new(table.clone(), clients.clone(), &config.password));
    acl.set_pubsub_default(config.acl_pubsub_default == "allchannels");
    engine.keep_users(acl.clone());
    let limits = Limits::of(&config);
    configure(&engine, &config);
    warn_of_eviction(&config);
    engine.tell_memory(process::memory_bytes_max(engine.env(), &config));
    let module_defaults = apply_module_settings(&config, &engine);
    let random = &engine.env().random;
    let run_id = (0..5).map(|_| format!("{:08x}", random.next_u64() as u32)).collect();
    let modules = commands::modules(&engine.inspect().view(0));
    let scripts = Scripts::new(engine.env().clock.clone());
    scripts.follow(config.busy_reply_threshold_ms);
    let started_at = engine.env().clock.monotonic();
    let started_ms = engine.env().clock.wall_ms();
    Ok(ServerContext {
        workers: (0..threads).map(|_| Arc::new(WorkerStats::new(names.len()))).collect(),
        table,
        names,
        config: RwLock::new(config),
        limits,
        clients,
        acl,
        pubsub: PubSub::default(),
        monitors: Default::default(),
        pause: Default::default(),
        latency,
        tracking,
        stats: Stats::default(),
        searches: Arc::default(),
        copies: Arc::default(),
        readings: Arc::default(),
        turns: Arc::default(),
        buffers: Arc::default(),
        snapshotter: hooks.snapshotter.clone(),
        has_modules: !module_commands.is_empty(),
        run_id,
        started_at,
        started_ms,
        addresses,
        module_commands: module_commands.to_vec(),
        module_defaults,
        configured: std::mem::replace(&mut hooks.configured, Box::new(|_| ())),
        allocated: hooks.allocated,
        rewriting: Mutex::new(()),
        stopping: Stopping::default(),
        scripts: Arc::new(scripts),
        modules,
        engine,
    })
}

/// Sets what the configuration says of the engine.
fn configure(engine: &Engine, config: &Config) {
    engine.bound_strings(config.bulk_bytes_max);
    engine.notices().set_events(config.notified_events.0);
    engine.limit_encodings(config.encodings);
    engine.note_accesses(config.access_mode());
    engine.limit_memory(config.memory_bytes_max);
}

/// Sets what the configuration says of modules, which was tried when it was read. Returns the settings of
/// before.
fn apply_module_settings(config: &Config, engine: &Engine) -> Vec<(&'static str, String)> {
    let run = engine.inspect();
    let view = run.view(0);
    let defaults = view.modules().iter().flat_map(|module| module.settings()).collect();
    for (name, value) in &config.module_settings {
        let set = view.modules().iter().find_map(|module| module.set_setting(name, value, false));
        if let Some(Err(cause)) = set {
            tracing::error!("{name} {value}: {cause}");
        }
    }
    defaults
}

/// Ids are given in the order of this walk.
/// A policy that drops data is not what this store promises.
fn warn_of_eviction(config: &Config) {
    if config.eviction_policy() != EvictionPolicy::None {
        tracing::warn!(
            "maxmemory-policy is {}: at maxmemory, acknowledged keys are deleted. Only noeviction keeps all data",
            config.eviction_policy
        );
    }
}

fn name(known: &Known, names: &mut Vec<String>) {
    assert_eq!(known.id, names.len(), "ids are dense");
    names.push(known.full_name.clone());
    known.subcommands.iter().for_each(|sub| name(sub, names));
}

/// Lowers `maxclients` to what the limit of open files allows.
fn fit_clients(config: &mut Config, threads: usize) -> Result<(), ServerError> {
    let wanted = config.clients_max;
    let allowed = process::allow_clients(wanted, threads);
    if allowed == 0 && wanted > 0 {
        return Err(ServerError::Descriptors { wanted: wanted.saturating_add(64) });
    }
    if allowed < wanted {
        tracing::warn!(
            "maxclients is {allowed} instead of {wanted}: the limit of open files allows no more, beside those of the \
             log and of snapshots; raise it with 'ulimit -n'"
        );
        (config.clients_max, config.clients_wanted) = (allowed, Some(wanted));
    }
    Ok(())
}

/// All cores but one, which is left to the log thread, to indexes and searches, and on a small machine to the
/// clients: measured on two cores, one worker answers more and with a shorter tail than two.
fn default_threads() -> usize {
    const THREADS_MAX: usize = 16;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    cores.saturating_sub(1).clamp(1, THREADS_MAX)
}
