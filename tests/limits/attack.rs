//! The server's peak of memory under attack, each attack on a separate server with one limit set. Prints a
//! table, and asserts that each peak is within its bound.
//!
//! Peaks are those of the process (`VmHWM`), minus its memory before the attack. So they include what the
//! allocator keeps, and the growth of buffers; the bounds allow for both.

use engramdb_resp::{Value, encode_command};
use engramdb_testkit::machine::Need;
use engramdb_testkit::process::{Client, Server, TempDir, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

struct Attack {
    name: &'static str,
    parameter: &'static str,
    /// The parameter's value, or that of all connections.
    limit: u64,
    /// By how much the peak may exceed the limit.
    margin: u64,
    /// Whether the attack exceeds the limit, so that its connections are closed.
    exceeds: bool,
    run: fn(&Server),
}

const ATTACKS: &[Attack] = &[
    Attack {
        name: "one request of 500 MB, never whole",
        parameter: "client-query-buffer-limit=16mb",
        limit: 16 * MIB,
        margin: 32 * MIB,
        exceeds: true,
        run: |server| flood(server, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n", &[b'x'; 1 << 20]),
    },
    Attack {
        name: "one request of 100 million words, never whole",
        parameter: "client-query-buffer-limit=16mb",
        limit: 16 * MIB,
        margin: 32 * MIB,
        exceeds: true,
        run: |server| flood(server, b"*100000000\r\n$4\r\nHSET\r\n", &b"$1\r\nx\r\n".repeat(100_000)),
    },
    Attack {
        name: "MULTI, and 10 million small commands",
        parameter: "client-query-buffer-limit=16mb",
        limit: 16 * MIB,
        margin: 32 * MIB,
        exceeds: true,
        run: |server| flood(server, b"MULTI\r\n", &b"GET k\r\n".repeat(100_000)),
    },
    Attack {
        name: "300 connections, each 1 MB of a request",
        parameter: "maxmemory-clients=32mb",
        limit: 32 * MIB,
        margin: 64 * MIB,
        exceeds: true,
        run: |server| half_requests(server, 300, 1 << 20),
    },
    Attack {
        // Growing buffers are copied by two threads, and the allocator keeps the smaller ones for a moment.
        name: "100 connections, each 5 MB of a request",
        parameter: "maxmemory-clients=32mb",
        limit: 32 * MIB,
        margin: 96 * MIB,
        exceeds: true,
        run: |server| half_requests(server, 100, 5 << 20),
    },
    Attack {
        name: "60 connections in turn, names of 10 MB",
        parameter: "maxmemory-clients=32mb",
        limit: 32 * MIB,
        margin: 64 * MIB,
        exceeds: false,
        run: long_names,
    },
    Attack {
        name: "300 connections, each 1 MB behind MULTI",
        parameter: "maxmemory-clients=32mb",
        limit: 32 * MIB,
        margin: 48 * MIB,
        exceeds: true,
        run: queues,
    },
    Attack {
        name: "300 connections, each 40 replies of 1 MB unread",
        parameter: "maxmemory-clients=32mb",
        limit: 32 * MIB,
        margin: 32 * MIB,
        exceeds: true,
        run: |server| unread(server, 300, 40),
    },
    Attack {
        name: "a pipeline of 1,000 replies of 1 MB, unread",
        parameter: "client-output-buffer-limit=normal 16mb 0 0",
        limit: 16 * MIB,
        margin: 16 * MIB,
        exceeds: true,
        run: |server| unread(server, 1, 1000),
    },
    Attack {
        name: "MGET of 2,000 values of 1 MB",
        parameter: "client-output-buffer-limit=normal 16mb 0 0",
        limit: 16 * MIB,
        margin: 16 * MIB,
        exceeds: true,
        run: |server| {
            let words: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain([&b"large"[..]; 2000]).collect();
            is_cut_off(server, &encode_command(&words));
        },
    },
    Attack {
        name: "EXEC of 2,000 GETs of 1 MB",
        parameter: "client-output-buffer-limit=normal 16mb 0 0",
        limit: 16 * MIB,
        margin: 16 * MIB,
        exceeds: true,
        run: |server| {
            is_cut_off(server, &[b"MULTI\r\n", &*b"GET large\r\n".repeat(2000), b"EXEC\r\n"].concat())
        },
    },
    Attack {
        name: "HGETALL of 500,000 fields, 10 times, unread",
        parameter: "client-output-buffer-limit=normal 16mb 0 0",
        limit: 16 * MIB,
        margin: 32 * MIB,
        exceeds: true,
        run: |server| is_cut_off(server, &b"HGETALL wide\r\n".repeat(10)),
    },
    Attack {
        name: "MGET of 2,000 values of 1 MB, evicted",
        parameter: "maxmemory-clients=16mb",
        limit: 16 * MIB,
        margin: 16 * MIB,
        exceeds: true,
        run: |server| {
            let words: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain([&b"large"[..]; 2000]).collect();
            is_cut_off(server, &encode_command(&words));
        },
    },
    Attack {
        name: "an HSET of 300,000 fields",
        parameter: "client-query-buffer-limit=32mb",
        limit: 32 * MIB,
        margin: 96 * MIB,
        exceeds: false,
        run: wide_hset,
    },
    Attack {
        name: "CLIENT REPLY OFF, and MGET of 2,000 values",
        parameter: "client-output-buffer-limit=normal 16mb 0 0",
        limit: 16 * MIB,
        margin: 16 * MIB,
        exceeds: false,
        run: no_replies,
    },
    Attack {
        name: "a subscriber that never reads",
        parameter: "client-output-buffer-limit=pubsub 16mb 0 0",
        limit: 16 * MIB,
        margin: 32 * MIB,
        exceeds: true,
        run: |server| never_reads(server, b"SUBSCRIBE news\r\n", &[b"PUBLISH", b"news", &[b'x'; 100_000]]),
    },
    Attack {
        name: "a MONITOR that never reads",
        parameter: "client-output-buffer-limit=normal 16mb 0 0",
        limit: 16 * MIB,
        margin: 32 * MIB,
        exceeds: true,
        run: |server| never_reads(server, b"MONITOR\r\n", &[b"EXISTS", &[b'x'; 100_000]]),
    },
    Attack {
        name: "a client that tracks keys and never reads",
        parameter: "client-output-buffer-limit=normal 16mb 0 0",
        limit: 16 * MIB,
        margin: 32 * MIB,
        exceeds: true,
        run: |server| {
            let track = b"HELLO 3\r\nCLIENT TRACKING ON BCAST\r\n";
            never_reads(server, track, &[b"SET", &[b'k'; 100_000], b"v"]);
        },
    },
    Attack {
        name: "10,000 clients that wait for a list",
        parameter: "maxclients=10000",
        limit: 10_000 * (IDLE_CLIENT_BYTES + PARKED_BYTES),
        margin: 8 * MIB,
        exceeds: false,
        run: parked_clients,
    },
    Attack {
        name: "10,000 idle clients",
        parameter: "maxclients=10000",
        limit: 10_000 * IDLE_CLIENT_BYTES,
        margin: 4 * MIB,
        exceeds: false,
        run: idle_clients,
    },
];

/// The memory of an idle connection, including that of the runtime and the allocator.
const IDLE_CLIENT_BYTES: u64 = 5 * 1024;
/// What a command adds to that which waits for a key.
const PARKED_BYTES: u64 = 3 * 1024;

#[test]
fn memory_under_attack_stays_within_each_limit() {
    let mut table = format!("{:48} {:44} {:>9} {:>9}\n", "attack", "parameter", "peak MiB", "bound");
    let mut complaints = String::new();
    for attack in ATTACKS {
        let peak = peak_bytes(attack);
        let bound = attack.limit + attack.margin;
        let (mib, bound_mib) = (peak as f64 / MIB as f64, bound / MIB);
        _ = writeln!(table, "{:48} {:44} {mib:>9.1} {bound_mib:>9}", attack.name, attack.parameter);
        if peak > bound {
            _ = writeln!(complaints, "{}: {mib:.1} MiB, {bound_mib} at most", attack.name);
        }
    }
    println!("{table}");
    assert!(complaints.is_empty(), "{complaints}");
}

/// A control group with limited memory; it is removed when the test ends.
struct Group {
    path: PathBuf,
    /// The file with the number of processes that the kernel killed for lack of memory.
    kills: &'static str,
    peak: &'static str,
}

impl Group {
    /// # Panics
    /// Where control groups cannot be made: it takes root.
    fn new(memory_bytes: u64) -> Group {
        let name = format!("engramdb-attack-{}", std::process::id());
        let first = Path::new("/sys/fs/cgroup/memory");
        let (path, limit, kills, peak) = if first.is_dir() {
            (first.join(name), "memory.limit_in_bytes", "memory.oom_control", "memory.max_usage_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup").join(name), "memory.max", "memory.events", "memory.peak")
        };
        let limited = std::fs::create_dir(&path)
            .and_then(|()| std::fs::write(path.join(limit), memory_bytes.to_string()));
        if let Err(error) = limited {
            Need::Root.fail(&format!(
                "No control group of limited memory can be made: {}: {error}",
                path.display()
            ));
        }
        Group { path, kills, peak }
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path.join(file)).expect("the group is there")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        _ = std::fs::remove_dir(&self.path);
    }
}

#[test]
fn in_320_mb_all_attacks_at_once_do_not_get_the_server_killed() {
    if Need::Root.is_missing() {
        return;
    }
    let directory = TempDir::new("group");
    let group = Group::new(320 * MIB);
    let parameters = [
        "maxmemory-clients=32mb",
        "client-output-buffer-limit=normal 16mb 0 0",
        "client-query-buffer-limit=16mb",
        "log-buffer=16mb",
    ];
    let arguments: Vec<&str> = parameters.iter().flat_map(|parameter| ["--set", *parameter]).collect();
    let server = Server::start_in_group(directory.path(), &arguments, &group.path.join("cgroup.procs"));
    fill(&server);
    for _ in 0..3 {
        std::thread::scope(|scope| {
            // The others need all places, or an answer.
            for attack in ATTACKS.iter().filter(|attack| attack.exceeds) {
                let server = &server;
                scope.spawn(move || (attack.run)(server));
            }
        });
        assert_eq!(server.client().call(&["PING"]).expect("it lives"), Value::SimpleString(b"PONG".to_vec()));
    }
    idle_clients(&server);
    println!(
        "peak of the group, page cache included: {} of {} bytes",
        group.read(group.peak).trim(),
        320 * MIB
    );
    println!("peak of the process: {} bytes", memory_bytes(&server, "VmHWM"));
    let kills = group.read(group.kills);
    let killed = kills.lines().find(|line| line.starts_with("oom_kill ")).expect("the kernel counts them");
    assert_eq!(killed, "oom_kill 0");
    assert!(server.shut_down());
}

/// Runs the attack; returns the peak of memory that it used. The server must have continued to serve others.
fn peak_bytes(attack: &Attack) -> u64 {
    let directory = TempDir::new("attack");
    let server = Server::start(directory.path(), &["--set", attack.parameter]);
    fill(&server);
    // Resets the peak.
    std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").expect("our own child");
    let before = memory_bytes(&server, "VmRSS");
    (attack.run)(&server);
    let alive = server.client().call(&["PING"]).expect("the server lives");
    assert_eq!(alive, Value::SimpleString(b"PONG".to_vec()), "{}", attack.name);
    memory_bytes(&server, "VmHWM").saturating_sub(before)
}

/// Stores the data that the attacks request.
fn fill(server: &Server) {
    let mut client = server.client();
    let large = vec![b'x'; 1 << 20];
    client.call(&[&b"SET"[..], b"large", &large]).expect("the server answers");
    for first in (0..500_000).step_by(1000) {
        let pairs = (first..first + 1000).flat_map(|number| [format!("field:{number}"), "v".to_owned()]);
        let words: Vec<String> = ["HSET".to_owned(), "wide".to_owned()].into_iter().chain(pairs).collect();
        client.call(&words).expect("the server answers");
    }
}

pub fn memory_bytes(server: &Server, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("Linux reports it");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

pub fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens")
}

/// Sends the same bytes repeatedly, until the server closes the connection.
fn flood(server: &Server, head: &[u8], again: &[u8]) {
    let mut stream = connect(server);
    // Answers must not keep the server from reading.
    let mut answers = stream.try_clone().expect("a socket");
    let reader = std::thread::spawn(move || _ = std::io::copy(&mut answers, &mut std::io::sink()));
    let mut sent = stream.write_all(head);
    let mut bytes = 0;
    while sent.is_ok() && bytes < 400 * MIB {
        sent = stream.write_all(again);
        bytes += again.len() as u64;
    }
    assert!(sent.is_err(), "{bytes} bytes were taken");
    drop(stream);
    reader.join().expect("it only reads");
}

/// Sends to each of many connections, some of which are evicted meanwhile.
fn send_to_many(server: &Server, connections: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut streams: Vec<TcpStream> = (0..connections).map(|_| connect(server)).collect();
    streams.iter_mut().for_each(|stream| _ = stream.write_all(bytes));
    until("connections are evicted", || info(server, "evicted_clients") > 0);
    streams
}

fn half_requests(server: &Server, connections: usize, bytes: usize) {
    let head = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n";
    send_to_many(server, connections, &[head, &vec![b'x'; bytes][..]].concat());
}

/// Each connection is closed before the next opens; the slow log contains them all.
fn long_names(server: &Server) {
    server.client().call(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]).expect("the server answers");
    for _ in 0..60 {
        let named = server.client().call(&[&b"CLIENT"[..], b"SETNAME", &vec![b'n'; 10 << 20]]);
        assert_eq!(named.expect("the server answers"), Value::SimpleString(b"OK".to_vec()));
    }
}

fn queues(server: &Server) {
    let command = encode_command(&[&b"SET"[..], b"k", &[b'x'; 100]]);
    send_to_many(server, 300, &[b"MULTI\r\n", &*command.repeat((1 << 20) / command.len())].concat());
}

fn unread(server: &Server, connections: usize, replies: usize) {
    let mut streams: Vec<TcpStream> = (0..connections).map(|_| connect(server)).collect();
    streams.iter_mut().for_each(|stream| _ = stream.write_all(&b"GET large\r\n".repeat(replies)));
    until("connections are closed", || {
        info(server, "evicted_clients") + info(server, "client_output_buffer_limit_disconnections") > 0
    });
}

/// Sends, and reads to the end: the reply must be cut off.
fn is_cut_off(server: &Server, bytes: &[u8]) {
    let closed = |server| info(server, "client_output_buffer_limit_disconnections");
    let before = closed(server);
    let mut stream = connect(server);
    _ = stream.write_all(bytes);
    until("one is closed", || closed(server) > before || info(server, "evicted_clients") > 0);
    let mut chunk = [0; 64 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Within the limit, and answered: its words use memory too while it runs.
fn wide_hset(server: &Server) {
    let pairs = (0..300_000).flat_map(|number| [format!("tag:{number}"), "v".to_owned()]);
    let words: Vec<String> = ["HSET".to_owned(), "tags".to_owned()].into_iter().chain(pairs).collect();
    assert_eq!(server.client().call(&words).expect("it is taken"), Value::Integer(300_000));
}

fn no_replies(server: &Server) {
    let mut client = server.client();
    client.send(&[&["CLIENT", "REPLY", "OFF"]]).expect("the server reads");
    let words: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain([&b"large"[..]; 2000]).collect();
    client.send(&[&words]).expect("the server reads");
    let on = client.call(&["CLIENT", "REPLY", "ON"]).expect("it is still connected");
    assert_eq!(on, Value::SimpleString(b"OK".to_vec()));
}

/// One client asks for pushes and reads none of them, while another causes more and more.
fn never_reads(server: &Server, ask: &[u8], cause: &[&[u8]]) {
    let mut deaf = connect(server);
    deaf.write_all(ask).expect("the server reads");
    let closed =
        |server| info(server, "client_output_buffer_limit_disconnections") + info(server, "evicted_clients");
    let (before, mut other, mut sent) = (closed(server), server.client(), 0);
    while closed(server) == before {
        let reply = other.call(cause).expect("others are served");
        assert!(!matches!(reply, Value::Error(_)), "{reply:?}");
        sent += cause.iter().map(|word| word.len() as u64).sum::<u64>();
        assert!(sent < 400 * MIB, "{sent} bytes were taken");
    }
}

fn open_all_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .expect("up to the hard limit");
}

/// All wait for one list, and are served in the order in which they came.
fn parked_clients(server: &Server) {
    open_all_files();
    let clients = 9_990;
    let mut streams: Vec<TcpStream> = (0..clients).map(|_| connect(server)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(b"BLPOP queue 0\r\n").expect("the server reads");
        if number == 0 {
            until("the first one waits", || info(server, "blocked_clients") == 1);
        }
    }
    until("all wait", || info(server, "blocked_clients") == clients);
    let mut other = server.client();
    assert_eq!(other.call(&["RPUSH", "queue", "item"]).expect("it is served"), Value::Integer(1));
    let mut reply = [0; b"*2\r\n$5\r\nqueue\r\n$4\r\nitem\r\n".len()];
    streams[0].read_exact(&mut reply).expect("the first one is served");
    assert_eq!(&reply, b"*2\r\n$5\r\nqueue\r\n$4\r\nitem\r\n");
    assert_eq!(info(server, "blocked_clients"), clients - 1);
}

fn idle_clients(server: &Server) {
    open_all_files();
    let clients = 9_990;
    let mut streams: Vec<TcpStream> = (0..clients).map(|_| connect(server)).collect();
    let mut reply = [0; 7];
    for stream in &mut streams {
        // Each connection has executed a command: a long pipeline would leave its lists allocated.
        stream.write_all(b"PING\r\n").expect("the server reads");
        stream.read_exact(&mut reply).expect("it is served");
    }
    assert!(info(server, "connected_clients") >= clients);
}

pub fn info(server: &Server, field: &str) -> u64 {
    let mut client = Client::connect(server.port).expect("the server listens");
    let text = client.call(&["INFO"]).expect("the server answers");
    let text = text.as_str().expect("INFO is text").to_owned();
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:"))).expect("the field is there");
    line[field.len() + 1..].parse().expect("a number")
}
