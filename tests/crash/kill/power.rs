//! Power cuts on a real file system: ext4 on a loop device, cut at any moment of a server's life, restarts included.
//!
//! A cut is ext4's own emergency shutdown: from that moment nothing reaches the image any more, neither the page cache nor
//! what the journal has not written. Between two cuts the server is killed and started a few times, on the page cache that
//! the one before left behind: so the cut also meets what a start has read, shown and built on.
//!
//! ```sh
//! cargo test --test crash -- --ignored --nocapture power    # ENGRAMDB_POWER_CUTS sets the number of cuts
//! ```
//!
//! Needs root, loop devices, mkfs.ext4 and python3.

use super::{Journal, WRITERS};
use engramdb_testkit::process::{Client, Server, TempDir, free_port, program, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

const POWER_CUTS: u64 = 100;
/// Between two cuts.
const KILLS_MAX: u64 = 3;
const OPERATIONS_PER_LIFE_MAX: usize = 150;
/// `EXT4_IOC_SHUTDOWN`, without flushing the journal first.
const SHUT_DOWN: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// An image with a file system, mounted until it is dropped.
struct LoopDisk {
    image: PathBuf,
    mount_point: PathBuf,
    /// What a server says that is cut while it starts.
    said: PathBuf,
    _directory: TempDir,
}

impl LoopDisk {
    fn new() -> LoopDisk {
        let directory = TempDir::new("loop");
        let (image, mount_point) = (directory.path().join("image"), directory.path().join("mounted"));
        std::fs::create_dir(&mount_point).expect("the directory is empty");
        let file = std::fs::File::create(&image).expect("the directory is writable");
        file.set_len(2 << 30).expect("a sparse file");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        let said = directory.path().join("said");
        let disk = LoopDisk { image, mount_point, said, _directory: directory };
        disk.mount();
        disk
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount_point));
    }

    fn unmount(&self) {
        run(Command::new("umount").arg(&self.mount_point));
    }

    /// From now on nothing reaches the image.
    fn cut(&self) {
        run(Command::new("python3").args(["-c", SHUT_DOWN]).arg(&self.mount_point));
    }

    fn data(&self) -> &Path {
        &self.mount_point
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // A test that failed may have left it mounted.
        _ = Command::new("umount").arg("-l").arg(&self.mount_point).output();
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program is there");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// All writers write until so many operations are acknowledged; then `end` is called, which ends the server's life.
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

/// Starts the server and compares what it shows with what it has promised, which it promises from then on.
fn start(disk: &LoopDisk, journals: &mut [Journal], round: u64) -> (Server, usize) {
    let server = Server::start(disk.data(), &[]);
    let mut client: Client = server.client();
    let acknowledged = journals.iter().map(|journal| journal.acknowledged).sum();
    journals.iter_mut().for_each(|journal| journal.check(&mut client, round));
    (server, acknowledged)
}

/// How far a start has come, as seen from outside.
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
    let (port, log) = (free_port(), disk.data().join("log"));
    let started_before = started_segments(&log);
    let mut child = program()
        .args(["serve", "--port", &port.to_string(), "--dir"])
        .arg(disk.data())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&disk.said).expect("the directory is writable"))
        .spawn()
        .expect("the binary was built with the tests");
    let process = child.id();
    until(&format!("a start does not come to {moment:?}"), || {
        if let Some(status) = child.try_wait().expect("our own child") {
            let said = std::fs::read_to_string(&disk.said).unwrap_or_default();
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
#[ignore = "needs root and a loop device"]
fn nothing_shown_or_acknowledged_is_lost_over_many_power_cuts() {
    let wanted = std::env::var("ENGRAMDB_POWER_CUTS").ok();
    let cuts = wanted.map_or(POWER_CUTS, |text| text.parse().expect("ENGRAMDB_POWER_CUTS is a number"));
    let disk = LoopDisk::new();
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
