//! Backup, verification and restore on the simulated disk, with small files.

use engramdb_engine::backup::{self, BackupError, BackupOptions, BackupReport, RestoreReport, VerifyReport};
use engramdb_engine::data_dir::{LOG_DIRECTORY, check_data_directory};
use engramdb_engine::env::{Disk, Env};
use engramdb_engine::recovery::Recovering;
use engramdb_sim::env::SimEnv;
use engramdb_testkit::store::{Store, compare, directory, snapshots};
use std::path::{Path, PathBuf};

/// The folder of derived state.
pub const GRAPHS: &str = "shards/0/indexes";

pub fn target() -> &'static Path {
    Path::new("/backup")
}

pub fn backup(env: &Env, copies_only: bool) -> Result<BackupReport, BackupError> {
    let options = BackupOptions { copies_only, derived: &[GRAPHS], program: "test" };
    backup::create(env, directory(), target(), &Vec::new, &options, &mut |_| ())
}

pub fn verify(env: &Env) -> Result<VerifyReport, BackupError> {
    backup::verify(env, target(), &Vec::new, &[GRAPHS], &mut |_| ())
}

/// Restores into the data directory.
pub fn restore(env: &Env, from: &Path) -> Result<RestoreReport, BackupError> {
    backup::restore(env, from, directory(), &Vec::new, &[GRAPHS], &mut |_| ())
}

/// A store with two snapshots, a saved graph, sealed segments and an open one.
pub fn prepared(seed: u64) -> Store {
    let store = Store::with_snapshots(seed, &[15, 15], 2, 25);
    put(&store.sim, &directory().join(GRAPHS), "1.index", b"a graph");
    put(&store.sim, &directory().join(GRAPHS), "2.tmp", b"half a graph");
    store
}

pub fn put(sim: &SimEnv, folder: &Path, name: &str, bytes: &[u8]) {
    let disk: &dyn Disk = &sim.disk;
    disk.create_dir_all(folder).expect("the power is on");
    disk.write_atomically(&folder.join(name), bytes).expect("the power is on");
}

/// All files below a directory.
pub fn files_in(sim: &SimEnv, folder: &Path) -> Vec<PathBuf> {
    sim.disk.paths().into_iter().filter(|path| path.starts_with(folder)).collect()
}

/// Removes the data directory's files durably.
pub fn lose(sim: &SimEnv) {
    for path in files_in(sim, directory()) {
        sim.disk.remove(&path).expect("it was listed");
    }
    for folder in
        [snapshots(), directory().join(LOG_DIRECTORY), directory().join(GRAPHS), directory().to_owned()]
    {
        sim.disk.sync_directory(&folder).expect("the power is on");
    }
}

/// Opens the data directory as a start does, and compares its content.
pub fn open_and_compare(sim: &SimEnv, wanted: &Recovering) -> Result<Store, String> {
    check_data_directory(&*sim.env.disk, directory()).map_err(|error| error.to_string())?;
    let store = Store::open(sim.clone())?;
    compare(wanted, &store.live).map(|()| store)
}

/// Fails unless the saved graph is unchanged.
pub fn has_graph(sim: &SimEnv, folder: &Path) -> Result<(), String> {
    match sim.disk.bytes(&folder.join(GRAPHS).join("1.index")) {
        Some(bytes) if bytes == b"a graph" => Ok(()),
        other => Err(format!("the graph is {other:?}")),
    }
}
