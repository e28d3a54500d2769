//! `used_memory` beside the resident set of the real binary: what each kind of load adds to one, it adds to
//! the other.

use crate::attack::{connect, info, memory_bytes};
use engramdb_resp::{Value, encode_command};
use engramdb_testkit::process::{Server, TempDir, until};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;

/// How far `used_memory` may be from the growth of the resident set, as a part of it.
const DEVIATION_MAX: f64 = 0.05;
/// What buffers of threads and pages of the allocator add at any size, in bytes.
const SLACK_BYTES: f64 = (3 << 20) as f64;
const BATCH: usize = 1000;

/// Commands of one kind of data: how many, and the one of a number.
type Load = (&'static str, usize, fn(usize) -> Vec<Vec<u8>>);

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn of_ten(command: &str, has_values: bool) -> Vec<Vec<u8>> {
    let items = (0..10)
        .map(|item| if has_values { format!(" f{item} value-{item}") } else { format!(" item-{item}") });
    words(&(command.to_owned() + &items.collect::<String>()))
}

const LOADS: &[Load] = &[
    ("strings", 200_000, |number| words(&format!("SET string:{number} value:{number}"))),
    ("hashes", 60_000, |number| of_ten(&format!("HSET hash:{number}"), true)),
    ("lists", 100_000, |number| of_ten(&format!("RPUSH list:{number}"), false)),
    ("sets", 100_000, |number| of_ten(&format!("SADD set:{number}"), false)),
    ("a sorted set", 200_000, |number| {
        words(&format!("ZADD board {} member:{number}", number * 7919 % 200_000))
    }),
    ("a stream", 400_000, |number| words(&format!("XADD stream * field value:{number}"))),
    ("strings of 2 KiB", 10_000, |number| {
        vec![b"SET".to_vec(), format!("long:{number}").into(), vec![b'x'; 2048]]
    }),
    ("vectors in an index", 8_000, |number| {
        let vector: Vec<u8> =
            (0..256_u32).flat_map(|at| ((number as u32 * 31 + at * 7) as f32).sin().to_le_bytes()).collect();
        vec![
            b"HSET".to_vec(),
            format!("doc:{number}").into(),
            b"v".to_vec(),
            vector,
            b"tag".to_vec(),
            format!("t{}", number % 50).into(),
        ]
    }),
];

#[test]
fn used_memory_grows_as_the_resident_set_does() {
    let directory = TempDir::new("accounting");
    let server = Server::start(directory.path(), &[]);
    let create = "FT.CREATE docs ON HASH PREFIX 1 doc: SCHEMA tag TAG v VECTOR HNSW 6 TYPE FLOAT32 DIM 256 DISTANCE_METRIC L2";
    let created = server.client().call(&words(create)).expect("the server answers");
    assert_eq!(created, Value::SimpleString(b"OK".to_vec()));
    // What every connection and the first batch of each size take is not data.
    load(&server, &("warm", 2_000, |number| words(&format!("SET warm:{number} x"))));
    let before = settled(&server);
    let mut table = format!("{:28} {:>9} {:>9} {:>6}\n", "after", "used MiB", "RSS MiB", "ratio");
    let mut complaints = String::new();
    // What is allocated and was not yet written is no part of the resident set.
    let mut compare = |name: &str, has_unwritten: bool| {
        let now = settled(&server);
        let [used, resident] = [0, 1].map(|at| now[at] as f64 - before[at] as f64);
        let line = format!(
            "{name:28} {:>9.1} {:>9.1} {:>6.3}\n",
            used / 1048576.0,
            resident / 1048576.0,
            used / resident
        );
        let excess = if has_unwritten { resident - used } else { (used - resident).abs() };
        if excess > DEVIATION_MAX * resident + SLACK_BYTES {
            complaints.push_str(&line);
        }
        table.push_str(&line);
    };
    for one in LOADS {
        load(&server, one);
        compare(one.0, false);
    }
    let clients = clients_with_buffers(&server);
    compare("1,000 clients with 64 KiB", true);
    drop(clients);
    _ = writeln!(table, "keys, clients and indexes are added one after the other");
    println!("{table}");
    assert!(complaints.is_empty(), "{complaints}");
}

fn load(server: &Server, (name, count, command): &Load) {
    let mut client = server.client();
    for start in (0..*count).step_by(BATCH) {
        let numbers = start..(start + BATCH).min(*count);
        let commands: Vec<Vec<Vec<u8>>> = numbers.clone().map(command).collect();
        let requests: Vec<u8> = commands
            .iter()
            .flat_map(|words| {
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                encode_command(&words)
            })
            .collect();
        client.send_raw(&requests).expect("the server reads");
        for number in numbers {
            let reply = client.receive().expect("the server answers");
            assert!(!matches!(reply, Value::Error(_)), "{name} {number}: {reply:?}");
        }
    }
}

/// Connections that have sent a part of a request.
fn clients_with_buffers(server: &Server) -> Vec<TcpStream> {
    let head = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n";
    let part = [&head[..], &[b'x'; 60 << 10]].concat();
    let mut streams: Vec<TcpStream> = (0..1000).map(|_| connect(server)).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(&part).expect("the server reads"));
    until("all have their buffers", || info(server, "mem_clients_normal") > 1000 * (60 << 10));
    streams
}

/// `used_memory` and the resident set, once what was written is in indexes and neither has changed in twenty
/// looks.
fn settled(server: &Server) -> [u64; 2] {
    let (mut first, mut looks) = ([0, 0], 0);
    until("memory is settled", || {
        let now = [info(server, "used_memory"), memory_bytes(server, "VmRSS")];
        let is_indexed = info(server, "search_pending_mutations") == 0;
        let is_same = now.iter().zip(first).all(|(now, first)| now.abs_diff(first) <= now / 200);
        looks = if is_indexed && is_same { looks + 1 } else { 0 };
        first = if looks == 0 { now } else { first };
        looks == 20
    });
    first
}
