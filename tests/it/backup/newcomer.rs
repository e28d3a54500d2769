//! Runs the script of docs/backup.md exactly as written: in an empty directory, with a stock redis.conf,
//! while a client writes.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

use super::process::{answers, load};
use engramdb_resp::Value;
use engramdb_testkit::process::{Client, TempDir, free_port, program, until};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The commands of the page, one per line.
fn script() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backup.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let (_, rest) = page.split_once("<!-- a test runs this -->\n```sh\n").expect("the script is marked");
    let (script, _) = rest.split_once("```").expect("the script ends");
    let code = script.lines().map(|line| line.split_once(" #").map_or(line, |(code, _)| code).trim());
    code.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The state of a new user's terminal session.
struct Newcomer {
    place: TempDir,
    port: u16,
    server: Option<Child>,
    /// The answers of searches after all data was loaded.
    expected: Vec<String>,
    /// The number of writes that were acknowledged before the backup began.
    counted: u64,
    /// The first two words of each line so far.
    done: Vec<String>,
}

impl Newcomer {
    fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["engramdb", "serve", ..] => self.serve(&words[1..]),
            ["engramdb", "backup", "--dir", ..] => self.back_up_while_writing(&words[1..]),
            ["engramdb", ..] => self.tool(&words[1..]),
            ["redis-cli", ..] => self.ask(&words[1..]),
            ["kill", "-9", "$!"] => self.stop(),
            ["rm", "-r", directory] => {
                std::fs::remove_dir_all(self.place.path().join(directory)).expect("it is there");
            }
            _ => panic!("the test does not know how to run {line:?}"),
        }
        self.done.push(words[..2.min(words.len())].join(" "));
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = program();
        command.args(words).current_dir(self.place.path()).stdin(Stdio::null());
        command
    }

    /// Starts the server in the background, as on the page but on the test's port.
    fn serve(&mut self, words: &[&str]) {
        assert!(self.server.is_none(), "the server before it still has the port");
        let words: Vec<&str> = words.iter().copied().filter(|word| *word != "&").collect();
        let port = self.port.to_string();
        let child =
            self.command(&words).args(["--port", &port]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.server = Some(child.expect("the binary was built with the tests"));
        until("the server does not answer", || {
            let child = self.server.as_mut().expect("just started");
            assert!(child.try_wait().expect("our own child").is_none(), "the server ended");
            Client::connect(self.port).and_then(|mut client| client.call(&["PING"])).is_ok()
        });
        let mut client = self.client();
        if self.expected.is_empty() {
            load(&mut client, 300);
            self.expected = answers(&mut client);
        } else {
            assert_eq!(answers(&mut client), self.expected, "searches answer as before");
            let count = client.call(&["GET", "counted"]).expect("the server answers");
            let count: u64 = count.as_str().expect("it was set").parse().expect("it is a number");
            assert!(
                count >= self.counted,
                "{} were acknowledged before the backup, {count} are there",
                self.counted
            );
        }
    }

    fn client(&self) -> Client {
        Client::connect(self.port).expect("the server listens")
    }

    fn tool(&self, words: &[&str]) {
        let output = self.command(words).output().expect("the binary was built with the tests");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{words:?}: {text}");
    }

    /// Runs the backup while a client writes before, during and after it.
    fn back_up_while_writing(&mut self, words: &[&str]) {
        let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
        self.counted = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut client = self.client();
                while !stop.load(Ordering::Relaxed) {
                    let reply = client.call(&["INCR", "counted"]).expect("the server answers");
                    let Value::Integer(count) = reply else { panic!("{reply:?}") };
                    acknowledged.store(count as u64, Ordering::Relaxed);
                }
            });
            until("nothing is written", || acknowledged.load(Ordering::Relaxed) >= 100);
            let before = acknowledged.load(Ordering::Relaxed);
            self.tool(words);
            let after = acknowledged.load(Ordering::Relaxed);
            until("nothing is written after it", || acknowledged.load(Ordering::Relaxed) > after);
            stop.store(true, Ordering::Relaxed);
            before
        });
    }

    fn ask(&mut self, words: &[&str]) {
        let reply = self.client().call(words).expect("the server answers");
        assert!(!reply.is_error() && reply != Value::Null, "{words:?}: {reply:?}");
    }

    /// Stops the last process that was started in the background.
    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("our own child");
            server.wait().expect("our own child");
        }
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn the_script_of_the_page_does_what_the_page_says() {
    let place = TempDir::new("newcomer");
    let stock = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/redis.conf");
    std::fs::copy(stock, place.path().join("redis.conf")).expect("both are there");
    let (expected, done) = (Vec::new(), Vec::new());
    let mut newcomer = Newcomer { place, port: free_port(), server: None, expected, counted: 0, done };
    for line in script() {
        newcomer.run(&line);
    }
    let steps = [
        "engramdb serve",
        "engramdb backup",
        "kill -9",
        "rm -r",
        "engramdb restore",
        "engramdb serve",
        "redis-cli GET",
    ];
    let mut done = newcomer.done.iter();
    for step in steps {
        assert!(done.any(|line| line == step), "the page has no {step} where it should: {:?}", newcomer.done);
    }
}
