//! The whole command with a small server whose answers depend on the command's name.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use engramdb_resp::ReplyReader;

use super::*;

type Counts = Arc<Mutex<HashMap<String, usize>>>;

/// Serves on a free port until the test ends, and counts commands. Refuses `SET` if `refuse_set`.
fn serve(refuse_set: bool) -> (String, Counts) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let counts = Counts::default();
    let shared = counts.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let counts = shared.clone();
            std::thread::spawn(move || answer(stream.unwrap(), &counts, refuse_set));
        }
    });
    (port, counts)
}

fn answer(mut stream: TcpStream, counts: &Counts, refuse_set: bool) {
    stream.set_nodelay(true).unwrap();
    let mut reader = ReplyReader::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).unwrap_or(0);
        if count == 0 {
            return;
        }
        reader.feed(&chunk[..count]);
        while let Some(request) = reader.next_reply().unwrap() {
            let arguments = request.as_array().unwrap();
            let name = arguments[0].as_str().unwrap().to_owned();
            let reply = match name.as_str() {
                "GET" => "$5\r\nvalue\r\n".to_owned(),
                "SET" if refuse_set => "-OOM command not allowed\r\n".into(),
                "SET" => "+OK\r\n".into(),
                "HMGET" => {
                    format!("*{}\r\n{}", arguments.len() - 2, "$2\r\nab\r\n".repeat(arguments.len() - 2))
                }
                "INFO" => "-ERR unknown command 'INFO'\r\n".into(),
                _ => ":1\r\n".into(),
            };
            *counts.lock().unwrap().entry(name).or_default() += 1;
            // In two pieces, so that replies arrive split.
            let (first, second) = reply.split_at(reply.len() / 2);
            stream.write_all(first.as_bytes()).unwrap();
            stream.write_all(second.as_bytes()).unwrap();
        }
    }
}

fn run_with(arguments: &[&str]) -> Result<(), BenchError> {
    run(crate::parse_arguments(arguments))
}

#[test]
fn every_command_is_sent_as_often_as_asked_and_answered() {
    let (port, counts) = serve(false);
    let directory = engramdb_testkit::TempDir::new("bench-keys");
    let json = directory.join("report.json");
    let arguments = [
        "--port",
        &port,
        "--ops",
        "get,set,mix:50:50,hmget,lookup,hset",
        "--keys",
        "50",
        "--requests",
        "403",
    ];
    let rest = [
        "-c",
        "4",
        "--pipeline",
        "3",
        "--entities",
        "10",
        "--threads",
        "2",
        "--out-json",
        json.to_str().unwrap(),
    ];
    run_with(&[&arguments[..], &rest].concat()).unwrap();

    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let runs = report["runs"].as_array().unwrap();
    assert!(runs.iter().all(|run| run["commands"] == 403), "{runs:#?}");
    let latencies = |at: usize| -> Vec<(&str, u64)> {
        let of = runs[at]["latencies"].as_array().unwrap();
        of.iter().map(|each| (each["of"].as_str().unwrap(), each["count"].as_u64().unwrap())).collect()
    };
    assert_eq!(latencies(0), [("GET", 403)]);
    let mixed = latencies(2);
    assert_eq!((mixed.len(), mixed[0].1 + mixed[1].1), (2, 403), "{mixed:?}");
    assert_eq!(latencies(4), [("lookup", 41)], "40 pipelines of ten and one of three");
    let counts = counts.lock().unwrap();
    assert_eq!((counts["HMGET"], counts["HSET"], counts["UNLINK"]), (2 * 403, 403 + 50, 50));
    assert_eq!(counts["GET"] + counts["SET"], 3 * 403 + 50, "50 are loaded");
}

#[test]
fn an_error_reply_ends_the_run_with_what_to_do() {
    let (port, _) = serve(true);
    let refusal =
        run_with(&["--port", &port, "--ops", "set", "--keys", "10", "--requests", "10"]).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains("SET with an error: OOM") && text.contains("maxmemory"), "{text}");
    let usage = run_with(&["--port", &port, "--fields", "0"]).unwrap_err().to_string();
    assert!(usage.contains("--fields must be at least 1"), "{usage}");
}
