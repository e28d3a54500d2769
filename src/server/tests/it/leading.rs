//! Workers that write the log themselves, and what becomes of their connections when the disk stalls just then.

use crate::stalling_log::StallingLog;
use crate::support::TestServer;
use engramdb_engine::log::pipeline::Options;
use std::sync::Arc;

fn serve(log: &StallingLog, threads: usize) -> TestServer {
    let options = Options { wake_on_kick: true, ..Options::default() };
    TestServer::over(Arc::new(log.clone()), |config| config.threads = threads, options)
}

#[test]
fn connections_of_a_worker_that_hangs_in_the_disk_are_served() {
    let log = StallingLog::new();
    let server = serve(&log, 1);
    let [mut writer, mut reader, mut late_writer] = [(); 3].map(|()| server.client());
    // The first entry shows that the log is quick, so the next ones are written by the worker.
    for round in 0..3 {
        writer.call(&format!("SET settled {round}"), "+OK\r\n");
    }
    for round in 0..3 {
        log.stall();
        writer.command(&format!("SET touched {round}"));
        assert_eq!(log.hanging_thread(), "worker-0");
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
fn several_workers_lead_in_turn_and_nothing_is_left_behind() {
    let log = StallingLog::new();
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
    let log = StallingLog::new();
    let server = serve(&log, 1);
    let mut writer = server.client();
    writer.call("SET a 1", "+OK\r\n");
    log.stall();
    writer.command("SET a 2");
    assert_eq!(log.hanging_thread(), "worker-0");
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
