//! LATENCY: what took long, and how long commands take.

use super::{Call, Run, session};
use crate::context::ServerContext;
use crate::latency::LatencySeries;
use crate::stats::LatencyCounts;
use engramdb_engine::command::{
    Command, CommandError, Known, Outcome, Reply, acl, container, flag, shown_word,
};
use std::fmt::Write;

pub const COMMANDS: &[Command] = &[container("LATENCY", LATENCY).group("server").docs(
    "2.8.13",
    "Depends on subcommand.",
    "A container for latency diagnostics commands.",
)];

const SPECIAL: &[&str] = &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];

const fn row(name: &'static str, usage: &'static str, run: &'static Run) -> Command {
    let flags = flag::ADMIN | flag::NO_SCRIPT | flag::LOADING | flag::STALE;
    session(name, usage, run).group("server").flags(flags).acl(acl::ADMIN | acl::DANGEROUS).tips(SPECIAL)
}

const LATENCY: &[Command] = &[
    row("DOCTOR", "", &Run(doctor)).docs(
        "2.8.13",
        "O(1)",
        "Returns a human-readable latency analysis report.",
    ),
    row("GRAPH", "event", &Run(graph)).docs("2.8.13", "O(1)", "Returns a latency graph for an event."),
    session("HELP", "", &Run(super::help)).group("server").flags(flag::LOADING | flag::STALE).docs(
        "2.8.13",
        "O(1)",
        "Returns helpful text about the different subcommands.",
    ),
    row("HISTOGRAM", "[command+]", &Run(histogram)).docs(
        "7.0.0",
        "O(N) where N is the number of commands with latency information being retrieved.",
        "Returns the cumulative distribution of latencies of a subset or all commands.",
    ),
    row("HISTORY", "event", &Run(history)).docs(
        "2.8.13",
        "O(1)",
        "Returns timestamp-latency samples for an event.",
    ),
    row("LATEST", "", &Run(latest)).docs(
        "2.8.13",
        "O(1)",
        "Returns the latest latency samples for all events.",
    ),
    row("RESET", "[event+]", &Run(reset))
        .tips(&["request_policy:all_nodes", "response_policy:agg_sum"])
        .docs("2.8.13", "O(1)", "Resets the latency data for one or more events."),
];

/// The latencies of a command, of all workers; none if it was not called.
pub fn latencies(shared: &ServerContext, id: usize) -> Option<LatencyCounts> {
    let histograms = shared.workers.iter().filter_map(|worker| worker.commands[id].latencies.get());
    LatencyCounts::sum(histograms.map(|histogram| &**histogram))
}

fn series(call: &Call<'_, '_, '_>) -> Option<(&'static str, LatencySeries)> {
    let name = call.args[2];
    call.shared.latency.all().into_iter().find(|(event, _)| event.as_bytes().eq_ignore_ascii_case(name))
}

fn history(call: &mut Call<'_, '_, '_>) -> Outcome {
    let samples = series(call).map_or_else(Default::default, |(_, series)| series.samples);
    call.reply.array(samples.len());
    for sample in samples {
        call.reply.array(2);
        call.reply.integer(sample.second as i64);
        call.reply.integer(sample.milliseconds as i64);
    }
    Ok(())
}

fn latest(call: &mut Call<'_, '_, '_>) -> Outcome {
    let events = call.shared.latency.all();
    call.reply.array(events.len());
    for (event, series) in events {
        let last = series.samples.back().expect("an event has a sample");
        call.reply.array(4);
        call.reply.bulk(event.as_bytes());
        call.reply.integer(last.second as i64);
        call.reply.integer(last.milliseconds as i64);
        call.reply.integer(series.worst_ms as i64);
    }
    Ok(())
}

fn reset(call: &mut Call<'_, '_, '_>) -> Outcome {
    let count = call.shared.latency.reset(call.args.from(2));
    call.reply.integer(count as i64);
    Ok(())
}

/// The rows of a graph, in characters; the last one is the baseline.
const GRAPH_ROWS: u64 = 4;

/// A column for each sample, the latest on the right, with its age below.
fn graph(call: &mut Call<'_, '_, '_>) -> Outcome {
    let Some((event, series)) = series(call) else {
        let name = shown_word(call.args[2], usize::MAX);
        return Err(CommandError::of_parts(&[b"ERR No samples available for event '", name, b"'"]));
    };
    let values: Vec<u64> = series.samples.iter().map(|sample| sample.milliseconds).collect();
    let (high, low) = (values.iter().max().copied().unwrap_or(0), values.iter().min().copied().unwrap_or(0));
    let worst = series.worst_ms;
    let mut text = format!("{event} - high {high} ms, low {low} ms (all time high {worst} ms)\n");
    text.push_str(&"-".repeat(80));
    text.push('\n');
    let span = (high - low).max(1);
    let levels: Vec<u64> = values.iter().map(|value| (value - low) * (2 * GRAPH_ROWS - 1) / span).collect();
    for row in (0..GRAPH_ROWS).rev() {
        let column = |level: &u64| match level.checked_sub(2 * row) {
            None => ' ',
            Some(0) => '_',
            Some(1) => 'o',
            Some(_) => '#',
        };
        text.extend(levels.iter().map(column));
        text.push('\n');
    }
    let now_s = call.shared.engine.env().clock.wall_ms() / 1000;
    let ages: Vec<String> =
        series.samples.iter().map(|sample| age(now_s.saturating_sub(sample.second))).collect();
    text.push('\n');
    for line in 0..ages.iter().map(String::len).max().unwrap_or(0) {
        text.extend(ages.iter().map(|age| age.as_bytes().get(line).map_or(' ', |byte| *byte as char)));
        text.push('\n');
    }
    call.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// Seconds, minutes, hours or days, in few characters.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn doctor(call: &mut Call<'_, '_, '_>) -> Outcome {
    let events = call.shared.latency.all();
    let threshold_ms = call.shared.latency.threshold_ms();
    let mut text = String::new();
    if events.is_empty() && threshold_ms == 0 {
        text.push_str(
            "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You may use \
             \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it.\n",
        );
    } else if events.is_empty() {
        text.push_str(
            "Dave, no latency spike was observed during the lifetime of this Redis instance, not in the slightest \
             bit. I honestly think you ought to sit down calmly, take a stress pill, and think things over.\n",
        );
    } else {
        text.push_str("Dave, I have observed latency spikes in this Redis instance.\n\n");
        for (number, (event, series)) in events.iter().enumerate() {
            let count = series.samples.len() as u64;
            let sum: u64 = series.samples.iter().map(|sample| sample.milliseconds).sum();
            let average = sum / count.max(1);
            let deviation: u64 =
                series.samples.iter().map(|sample| sample.milliseconds.abs_diff(average)).sum();
            let first = series.samples.front().map_or(0, |sample| sample.second);
            let now_s = call.shared.engine.env().clock.wall_ms() / 1000;
            let period = now_s.saturating_sub(first).max(1) as f64 / count.max(1) as f64;
            _ = writeln!(
                text,
                "{}. {event}: {count} latency spikes (average {average}ms, mean deviation {}ms, period {period:.2} \
                 sec). Worst all time event {}ms.",
                number + 1,
                deviation / count.max(1),
                series.worst_ms
            );
        }
        text.push_str(
            "\nI have a few advices for you:\n\n- SLOWLOG GET shows the commands that took long, and LATENCY \
             HISTOGRAM how long each takes.\n- EXEC and commands with very many words hold others up: send fewer \
             together.\n- The machine may be short of CPU time: lower its load.\n",
        );
    }
    call.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// Of all commands, or of those that are named; a container includes its subcommands.
fn histogram(call: &mut Call<'_, '_, '_>) -> Outcome {
    let mut asked: Vec<&Known> = Vec::new();
    if call.args.len() == 2 {
        call.shared.table.iter().for_each(|known| add_all(known, &mut asked));
    } else {
        for name in call.args.from(2) {
            let parts: Vec<&[u8]> = name.splitn(2, |byte| *byte == b'|').collect();
            if let Some(known) = call.shared.table.find(engramdb_engine::command::Args::new(&parts)) {
                add_all(known, &mut asked)
            }
        }
    }
    let found: Vec<(&str, LatencyCounts)> = asked
        .into_iter()
        .filter_map(|known| Some((&*known.full_name, latencies(call.shared, known.id)?)))
        .collect();
    call.reply.map(found.len());
    for (name, counts) in found {
        call.reply.bulk(name.as_bytes());
        call.reply.map(2);
        call.reply.bulk(b"calls");
        call.reply.integer(counts.total as i64);
        call.reply.bulk(b"histogram_usec");
        let points = counts.by_powers();
        call.reply.map(points.len());
        for (microseconds, calls) in points {
            call.reply.integer(microseconds as i64);
            call.reply.integer(calls as i64);
        }
    }
    Ok(())
}

fn add_all<'k>(known: &'k Known, all: &mut Vec<&'k Known>) {
    all.push(known);
    known.subcommands.iter().for_each(|sub| all.push(sub));
}
