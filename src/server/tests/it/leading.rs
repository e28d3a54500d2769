//! Workers that write the log themselves, and what becomes of their connections when the disk stalls just
//! then.

use crate::support::{TestClient, TestServer};
use engramdb_engine::log::entry::EntryKind;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::testing::{Schedule, TestLog};
use engramdb_engine::log::{Mark, ShardLog, Step, Wait};
use std::sync::Arc;
use std::time::Duration;

const QUICK: Duration = Duration::from_micros(100);

fn serve(log: &TestLog, threads: usize) -> TestServer {
    let options = Options { wake_on_kick: true, ..Options::default() };
    TestServer::over(Arc::new(log.clone()), |config| config.threads = threads, options)
}

/// Stalls the disk and sends a write, so that the worker hangs in it. The log thread may still be about an
/// entry that it was called for, and then takes the write into the next one: that is as good, but not what is
/// to be seen here.
fn hang_the_worker(log: &TestLog, writer: &mut TestClient, write: &str) {
    for _ in 0..100 {
        log.stall();
        writer.command(write);
        match &*log.waiting_thread() {
            "worker-0" => return,
            other => assert_eq!(other, "log"),
        }
        log.go_on();
        writer.expect("+OK\r\n");
    }
    panic!("the worker never wrote the log");
}

#[test]
fn connections_of_a_worker_that_hangs_in_the_disk_are_served() {
    let log = TestLog::new(Schedule::AtOnce).with_usual_time(QUICK);
    let server = serve(&log, 1);
    let [mut writer, mut reader, mut late_writer] = [(); 3].map(|()| server.client());
    // The first entry shows that the log is quick, so the next ones are written by the worker.
    for round in 0..3 {
        writer.call(&format!("SET settled {round}"), "+OK\r\n");
    }
    for round in 0..3 {
        hang_the_worker(&log, &mut writer, &format!("SET touched {round}"));
        reader.call("GET settled", "$1\r\n2\r\n");
        server.client().call("PING", "+PONG\r\n");
        late_writer.command("SET late 1");
        late_writer.expect_silence();
        reader.command("GET touched");
        reader.expect_silence();
        writer.expect_silence();
        log.go_on();
        writer.expect("+OK\r\n");
        reader.expect(format!("$1\r\n{round}\r\n"));
        late_writer.expect("+OK\r\n");
    }
}

#[test]
fn replies_that_wait_for_the_rest_of_their_pipeline_leave_when_the_disk_stalls() {
    let log = TestLog::new(Schedule::AtOnce).with_usual_time(QUICK);
    let server = serve(&log, 1);
    let [mut writer, mut client] = [(); 2].map(|()| server.client());
    for round in 0..3 {
        writer.call(&format!("SET settled {round}"), "+OK\r\n");
    }
    hang_the_worker(&log, &mut writer, "SET touched 1");
    // One request in front of the write that hangs, and one in front of a write that comes while it does.
    client.send("GET settled\r\nSET other 1\r\n");
    client.expect("$1\r\n2\r\n");
    client.expect_silence();
    log.go_on();
    client.expect("+OK\r\n");
    writer.expect("+OK\r\n");
    // The same, of the connection whose write hangs: it was held when the disk began to stall.
    for _ in 0..100 {
        log.stall();
        client.send("GET settled\r\nSET other 2\r\n");
        if &*log.waiting_thread() == "worker-0" {
            client.expect("$1\r\n2\r\n");
            client.expect_silence();
            log.go_on();
            return client.expect("+OK\r\n");
        }
        log.go_on();
        client.expect("$1\r\n2\r\n+OK\r\n");
    }
    panic!("the worker never wrote the log");
}

#[test]
fn several_workers_lead_in_turn_and_nothing_is_left_behind() {
    let log = TestLog::new(Schedule::AtOnce).with_usual_time(QUICK);
    let server = serve(&log, 3);
    std::thread::scope(|scope| {
        for number in 0..12 {
            let mut client = server.client();
            scope.spawn(move || {
                for round in 0..200 {
                    client.call(&format!("SET key{number} {round}"), "+OK\r\n");
                    if round % 3 == 0 {
                        client.call(&format!("GET key{number}"), &bulk(round));
                    }
                }
            });
        }
    });
}

#[test]
fn a_server_stops_while_its_standby_serves() {
    let log = TestLog::new(Schedule::AtOnce).with_usual_time(QUICK);
    let server = serve(&log, 1);
    let mut writer = server.client();
    writer.call("SET a 1", "+OK\r\n");
    hang_the_worker(&log, &mut writer, "SET a 2");
    server.client().call("PING", "+PONG\r\n");
    let stopping = std::thread::spawn(move || drop(server));
    log.go_on();
    stopping.join().expect("a clean stop");
    assert_eq!(writer.rest(), "+OK\r\n");
}

fn bulk(number: i32) -> String {
    let text = number.to_string();
    format!("${}\r\n{text}\r\n", text.len())
}

/// The largest number of batches in one entry.
fn largest_entry(log: &TestLog) -> u64 {
    let mut entries = log.read(Mark::default());
    let mut largest = 0;
    while let Step::Entry(entry) = entries.next(Wait::No).expect("a log in memory") {
        if entry.header.kind == EntryKind::Data {
            largest = largest.max(entry.header.last_lsn.0 - entry.header.first_lsn.0 + 1);
        }
    }
    largest
}

#[test]
fn on_a_slow_disk_clients_do_not_fall_into_two_halves() {
    // Half an hour is more than the test's patience: an entry that was put off leaves because all have come.
    let log = TestLog::new(Schedule::AtOnce).with_usual_time(Duration::from_secs(2 * 3600));
    let server = serve(&log, 1);
    let mut clients: Vec<_> = (0..6).map(|_| server.client()).collect();
    log.stall();
    clients[0].command("SET key0 0");
    assert_eq!(log.waiting_thread(), "log");
    for (number, client) in clients.iter_mut().enumerate().skip(1) {
        client.command(&format!("SET key{number} 0"));
    }
    // Seen by the server, and so in the next entry.
    server.wait_for_batches(6);
    log.go_on();
    clients[0].expect("+OK\r\n");
    clients[0].command("SET key0 1");
    for client in &mut clients {
        client.expect("+OK\r\n");
    }
    assert_eq!(largest_entry(&log), 6);
}

#[test]
fn clients_that_do_not_come_back_are_not_waited_for() {
    let log = TestLog::new(Schedule::AtOnce).with_usual_time(Duration::from_millis(400));
    let server = serve(&log, 1);
    let [mut first, mut second] = [(); 2].map(|()| server.client());
    log.stall();
    first.command("SET key0 0");
    assert_eq!(log.waiting_thread(), "log");
    second.command("SET key1 0");
    server.wait_for_batches(2);
    log.go_on();
    first.expect("+OK\r\n");
    second.expect("+OK\r\n");
    assert_eq!(largest_entry(&log), 1);
}
