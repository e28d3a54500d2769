//! Power cuts on a real file system: ext4 on a loop device, cut at any moment of a server's life, restarts
//! included.
//!
//! A cut is ext4's own emergency shutdown: from that moment nothing reaches the image any more, neither the
//! page cache nor what the journal has not written. Between two cuts the server is killed and started a few
//! times, on the page cache that the one before left behind: so the cut also meets what a start has read,
//! shown and built on.
//!
//! Needs root and loop devices.

use super::{Journal, WRITERS};
use engramdb_testkit::loop_disk::LoopDisk;
use engramdb_testkit::machine::Need;
use engramdb_testkit::process::{Client, Server, free_port, program, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of power cuts in a normal run; set ENGRAMDB_POWER_CUTS=100 for a long one.
const POWER_CUTS: u64 = 6;
/// The most kills between two power cuts.
const KILLS_MAX: u64 = 3;
const OPERATIONS_PER_LIFE_MAX: usize = 150;

/// All writers write until `wanted` operations are acknowledged; then `end` is called, which ends the server.
fn write(journals: &mut [Journal], server: Server, wanted: usize, end: impl FnOnce(Server)) {
    let acknowledged = &AtomicUsize::new(0);
    let port = server.port;
    std::thread::scope(|scope| {
        for journal in journals {
            scope.spawn(move || journal.write(port, acknowledged));
        }
        until("the writers stand still", || acknowledged.load(Ordering::Relaxed) >= wanted);
        end(server);
    });
}

/// Starts the server and compares its data with the acknowledged operations. What it shows then counts as
/// acknowledged too.
fn start(disk: &LoopDisk, journals: &mut [Journal], round: u64) -> (Server, usize) {
    let server = Server::start(disk.path(), &[]);
    let mut client: Client = server.client();
    let acknowledged = journals.iter().map(|journal| journal.acknowledged).sum();
    journals.iter_mut().for_each(|journal| journal.check(&mut client, round));
    (server, acknowledged)
}

/// The progress of a start, as seen from outside.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Spawned,
    /// It has the log's directory open: it reads the log.
    Reading,
    /// It has started a segment of its own.
    Claimed,
    Answering,
}

const MOMENTS: [Moment; 4] = [Moment::Spawned, Moment::Reading, Moment::Claimed, Moment::Answering];

impl Moment {
    fn has_come(self, log: &Path, started_before: usize, process: u32, port: u16) -> bool {
        match self {
            Moment::Spawned => true,
            Moment::Reading => {
                let open = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
                open.flat_map(|file| std::fs::read_link(file.path())).any(|path| path.starts_with(log))
            }
            Moment::Claimed => started_segments(log) > started_before,
            Moment::Answering => Client::connect(port).is_ok(),
        }
    }
}

/// Segments that have a header.
fn started_segments(log: &Path) -> usize {
    let files = std::fs::read_dir(log).into_iter().flatten().flatten();
    let segments = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
    let is_started = |path: &Path| {
        let mut magic = [0; 8];
        let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
        read.is_ok() && magic != [0; 8]
    };
    segments.filter(|file| is_started(&file.path())).count()
}

/// Starts a server and cuts the power on its way.
fn cut_a_start(disk: &LoopDisk, moment: Moment) {
    let (port, log) = (free_port(), disk.path().join("shards/0/log"));
    let started_before = started_segments(&log);
    let said = disk.beside().join("said");
    let mut child = program()
        .args(["serve", "--port", &port.to_string(), "--dir"])
        .arg(disk.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&said).expect("the directory is writable"))
        .spawn()
        .expect("the binary was built with the tests");
    let process = child.id();
    until(&format!("a start does not come to {moment:?}"), || {
        if let Some(status) = child.try_wait().expect("our own child") {
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            panic!("a start ended before {moment:?}, {status}: {said}");
        }
        moment.has_come(&log, started_before, process, port)
    });
    disk.cut();
    // The disk's error may have ended it already.
    _ = child.kill();
    child.wait().expect("our own child");
}

#[test]
fn nothing_shown_or_acknowledged_is_lost_over_many_power_cuts() {
    if Need::Root.is_missing() {
        return;
    }
    let wanted = std::env::var("ENGRAMDB_POWER_CUTS").ok();
    let cuts = wanted.map_or(POWER_CUTS, |text| text.parse().expect("ENGRAMDB_POWER_CUTS is a number"));
    let disk = LoopDisk::new(2 << 30);
    let mut journals: Vec<Journal> = (0..WRITERS).map(Journal::new).collect();
    let mut random = StdRng::seed_from_u64(77);
    let (mut kills, mut operations) = (0, 0);
    for round in 0..cuts {
        for _ in 0..random.random_range(0..=KILLS_MAX) {
            let (server, acknowledged) = start(&disk, &mut journals, round);
            operations += acknowledged;
            if random.random_bool(0.3) {
                server.client().call(&["BGSAVE"]).expect("the server answers");
            }
            let wanted = random.random_range(0..OPERATIONS_PER_LIFE_MAX);
            write(&mut journals, server, wanted, Server::kill);
            kills += 1;
        }
        if random.random_bool(0.3) {
            cut_a_start(&disk, MOMENTS[random.random_range(0..MOMENTS.len())]);
            disk.unmount();
            disk.mount();
        }
        let (server, acknowledged) = start(&disk, &mut journals, round);
        operations += acknowledged;
        // Sometimes at once: what the start has shown is all that is at stake.
        let wanted =
            if random.random_bool(0.4) { 0 } else { random.random_range(0..OPERATIONS_PER_LIFE_MAX) };
        write(&mut journals, server, wanted, |server| {
            disk.cut();
            server.kill();
        });
        disk.unmount();
        disk.mount();
    }
    let (server, acknowledged) = start(&disk, &mut journals, cuts);
    operations += acknowledged;
    server.kill();
    disk.unmount();
    println!(
        "{cuts} power cuts, {kills} kills, {operations} acknowledged operations: none lost, no start refused"
    );
}
