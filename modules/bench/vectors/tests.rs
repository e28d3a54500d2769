//! The whole command with a small server that keeps hashes in a map and searches by a scan.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use engramdb_resp::ReplyReader;

use super::*;
use crate::parse_arguments as parse;

#[derive(Default)]
struct Store {
    hashes: HashMap<String, HashMap<String, Vec<u8>>>,
    log: Vec<String>,
}

/// Serves on a free port of the loopback, one thread per connection, until the test ends.
fn serve() -> (u16, Arc<Mutex<Store>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let store = Arc::new(Mutex::new(Store::default()));
    let shared = store.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let store = shared.clone();
            std::thread::spawn(move || answer(stream.unwrap(), &store));
        }
    });
    (port, store)
}

/// A request is an array of bulk strings, which the reply parser reads as well.
fn answer(mut stream: TcpStream, store: &Mutex<Store>) {
    let mut reader = ReplyReader::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).unwrap_or(0);
        if count == 0 {
            return;
        }
        reader.feed(&chunk[..count]);
        while let Some(request) = reader.next_reply().unwrap() {
            let arguments: Vec<&[u8]> =
                request.as_array().unwrap().iter().map(|a| a.as_bytes().unwrap()).collect();
            let reply = store.lock().unwrap().execute(&arguments);
            stream.write_all(reply.as_bytes()).unwrap();
        }
    }
}

impl Store {
    fn execute(&mut self, arguments: &[&[u8]]) -> String {
        let text = |at: usize| String::from_utf8_lossy(arguments[at]).into_owned();
        match text(0).as_str() {
            "FT.CREATE" => {
                self.log.push((0..arguments.len()).map(text).collect::<Vec<_>>().join(" "));
                "+OK\r\n".into()
            }
            "FT.DROPINDEX" => {
                self.log.push("FT.DROPINDEX".into());
                "-Unknown index name\r\n".into()
            }
            "FT.INFO" => {
                format!("*4\r\n$8\r\nnum_docs\r\n:{}\r\n$8\r\nindexing\r\n:0\r\n", self.hashes.len())
            }
            "HSET" => {
                let fields = arguments[2..]
                    .chunks(2)
                    .map(|pair| (String::from_utf8_lossy(pair[0]).into(), pair[1].into()));
                self.hashes.insert(text(1), fields.collect());
                ":1\r\n".into()
            }
            "UNLINK" => {
                let removed =
                    (1..arguments.len()).filter(|&at| self.hashes.remove(&text(at)).is_some()).count();
                format!(":{removed}\r\n")
            }
            "FT.SEARCH" => self.search(&text(2), arguments[10]),
            other => format!("-ERR unknown command '{other}'\r\n"),
        }
    }

    /// The three rows nearest by L2 among those with the tag of the query, if it has one.
    fn search(&self, query: &str, blob: &[u8]) -> String {
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        };
        let wanted = floats(blob);
        let tag = query.split_once('{').map(|(_, rest)| rest.split('}').next().unwrap().as_bytes().to_vec());
        let has_tag = |fields: &HashMap<String, Vec<u8>>| match &tag {
            Some(tag) => fields
                .get("random_tags")
                .is_some_and(|tags| tags.split(|&byte| byte == b',').any(|t| t == tag)),
            None => true,
        };
        let distance = |fields: &HashMap<String, Vec<u8>>| {
            floats(&fields["vector"]).iter().zip(&wanted).map(|(a, b)| (a - b) * (a - b)).sum::<f32>()
        };
        let matching = self.hashes.iter().filter(|(_, fields)| has_tag(fields));
        let mut found: Vec<(f32, &String)> = matching.map(|(key, fields)| (distance(fields), key)).collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        found.truncate(3);
        let rows: String = found.iter().map(|(_, key)| format!("${}\r\n{key}\r\n", key.len())).collect();
        format!("*{}\r\n:{}\r\n{rows}", found.len() + 1, found.len())
    }
}

#[test]
fn a_whole_run_finds_every_neighbor_and_removes_its_keys() {
    let (port, store) = serve();
    let directory = engramdb_testkit::TempDir::new("bench-run");
    let json = directory.join("report.json");
    let port = port.to_string();
    let path = json.to_str().unwrap();
    let arguments = [
        "--port",
        &port,
        "--dataset",
        "synthetic:300:8:1",
        "--metric",
        "l2",
        "--limit-queries",
        "20",
        "-k",
        "3",
    ];
    let sweep = [
        "--ef",
        "5,10",
        "--connections",
        "1,3",
        "--seconds",
        "0",
        "--filter",
        "tag:random:10,tag:random:0.5",
    ];
    let engines = ["--engines", "server,exact", "--out-json", path];
    run(parse(&[&arguments[..], &sweep, &engines].concat())).unwrap();

    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let searches = report["searches"].as_array().unwrap();
    assert_eq!(searches.len(), 3 * 2 * 2 + 3 * 2, "filters x ef x connections, and a scan has no ef");
    assert!(
        searches.iter().all(|search| search["recall"] == 1.0 && search["searches"].as_u64() >= Some(20)),
        "{searches:?}"
    );
    assert_eq!(report["loads"][0]["rows"], 300);
    let store = store.lock().unwrap();
    assert_eq!(store.hashes.len(), 0, "rows are removed");
    let created = "FT.CREATE engramdb-bench ON HASH PREFIX 1 engramdb-bench: SCHEMA random_tags TAG SEPARATOR , vector VECTOR \
                   HNSW 10 TYPE FLOAT32 DIM 8 DISTANCE_METRIC L2 M 16 EF_CONSTRUCTION 200";
    assert_eq!(store.log, ["FT.DROPINDEX", created, "FT.DROPINDEX"]);
}

#[test]
fn the_library_finds_the_rows_of_a_scan() {
    let directory = engramdb_testkit::TempDir::new("bench-library");
    let json = directory.join("report.json");
    let arguments =
        ["--engines", "library", "--index", "flat", "--dataset", "synthetic:200:8:1", "--connections", "2"];
    let rest = ["--seconds", "0", "--filter", "numeric:correlated:2", "--out-json", json.to_str().unwrap()];
    run(parse(&[&arguments[..], &rest].concat())).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let recalls: Vec<f64> = report["searches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|search| search["recall"].as_f64().unwrap())
        .collect();
    assert_eq!(recalls, [1.0, 1.0]);
    assert_eq!(report["loads"][0]["engine"], "library");
}

#[test]
fn refusals_name_the_next_step() {
    let refusal = |arguments: &[&str]| run(parse(arguments)).unwrap_err().to_string();
    let small = ["--dataset", "synthetic:30:4:1"];
    assert!(
        refusal(&[&small[..], &["--connections", "0"]].concat()).contains("--connections must be at least 1")
    );
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let unreachable = refusal(&[&small[..], &["--port", &port]].concat());
    assert!(unreachable.contains("engramdb serve"), "{unreachable}");
    let pid =
        refusal(&[&small[..], &["--port", &serve().0.to_string(), "--server-pid", "4294967295"]].concat());
    assert!(pid.contains("leave out --server-pid"), "{pid}");
}
