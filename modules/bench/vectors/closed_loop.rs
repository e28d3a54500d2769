//! Closed loops: each connection sends its next query as soon as it has the answer to the last one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use super::engine::{SearchParameters, VectorEngine};
use crate::error::BenchError;
use crate::latency::Latencies;
use crate::machine::{self, Process};

/// The parameters of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct LoopPlan {
    pub connections: usize,
    /// Queries of the data set; each is sent at least once, and its first answer is kept.
    pub queries: usize,
    /// Queries are repeated until this much time has passed.
    pub at_least: Duration,
    /// Searches before the clock starts.
    pub warm_up: usize,
}

/// The results of a measurement.
pub struct LoopOutcome {
    pub latencies: Latencies,
    pub searches: u64,
    pub seconds: f64,
    /// CPU time of the searching process meanwhile, if known.
    pub cpu_seconds: Option<f64>,
    /// CPU time of this tool meanwhile, if it is another process.
    pub own_cpu_seconds: Option<f64>,
    /// CPU time of all processes of this machine meanwhile.
    pub machine_cpu_seconds: Option<f64>,
    /// The first answer to each query.
    pub answers: Vec<Option<Vec<u32>>>,
    /// Distances computed per query, on average over those answers, if the engine reports it.
    pub evaluated: Option<f64>,
}

impl LoopOutcome {
    /// Adds a later run of the same queries; the answers stay those of the first.
    pub fn add(&mut self, later: &LoopOutcome) {
        self.latencies.add(&later.latencies);
        self.searches += later.searches;
        self.seconds += later.seconds;
        let sum = |one: Option<f64>, other: Option<f64>| one.zip(other).map(|(one, other)| one + other);
        self.cpu_seconds = sum(self.cpu_seconds, later.cpu_seconds);
        self.own_cpu_seconds = sum(self.own_cpu_seconds, later.own_cpu_seconds);
        self.machine_cpu_seconds = sum(self.machine_cpu_seconds, later.machine_cpu_seconds);
    }

    /// CPU time of the searching process per query, in microseconds.
    pub fn cpu_us_per_query(&self) -> Option<f64> {
        self.cpu_seconds.map(|seconds| seconds * 1e6 / self.searches as f64)
    }

    /// The same of this tool.
    pub fn own_cpu_us_per_query(&self) -> Option<f64> {
        self.own_cpu_seconds.map(|seconds| seconds * 1e6 / self.searches as f64)
    }

    /// The share of the processors that server and tool used together.
    pub fn busy(&self) -> Option<f64> {
        machine::busy_share(self.cpu_seconds, self.own_cpu_seconds, self.seconds)
    }

    /// The share that other programs used, if the CPU time of the searching process is known.
    pub fn others(&self) -> Option<f64> {
        let known = [self.cpu_seconds, self.own_cpu_seconds];
        machine::others_share(self.machine_cpu_seconds, &known, self.seconds)
            .filter(|_| self.cpu_seconds.is_some())
    }
}

/// Runs `plan` against `engine`. The first error of any connection ends the run.
pub fn run(
    engine: &dyn VectorEngine,
    parameters: SearchParameters<'_>,
    plan: LoopPlan,
) -> Result<LoopOutcome, BenchError> {
    let shared = Shared {
        plan,
        next: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        start: Barrier::new(plan.connections + 1),
        answers: Mutex::new(vec![None; plan.queries]),
        evaluated: Mutex::new(Vec::new()),
    };
    let mut searchers = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        let mut searcher = engine.searcher(parameters)?;
        for query in 0..plan.warm_up.div_ceil(plan.connections).min(plan.queries) {
            searcher.search(query)?;
        }
        searchers.push(searcher);
    }
    std::thread::scope(|scope| {
        let shared = &shared;
        let threads: Vec<_> = searchers
            .into_iter()
            .map(|mut searcher| scope.spawn(move || shared.ask(&mut *searcher)))
            .collect();
        let own_cpu = || Process::own().cpu_seconds().filter(|_| !engine.is_in_process());
        let (cpu_before, own_before) = (engine.cpu_seconds(), own_cpu());
        let machine_before = machine::machine_cpu_seconds();
        shared.start.wait();
        let started = Instant::now();
        let mut latencies = Latencies::new();
        let mut outcome = Ok(());
        for thread in threads {
            match thread.join().expect("a connection's thread does not panic") {
                Ok(own) => latencies.add(&own),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let used =
            |before: Option<f64>, after: Option<f64>| before.zip(after).map(|(before, after)| after - before);
        let cpu_seconds = used(cpu_before, engine.cpu_seconds());
        let own_cpu_seconds = used(own_before, own_cpu());
        let machine_cpu_seconds = used(machine_before, machine::machine_cpu_seconds());
        let answers = std::mem::take(&mut *shared.answers.lock().expect("no thread panicked"));
        let evaluated = std::mem::take(&mut *shared.evaluated.lock().expect("no thread panicked"));
        let evaluated =
            (!evaluated.is_empty()).then(|| evaluated.iter().sum::<usize>() as f64 / evaluated.len() as f64);
        outcome.map(|()| LoopOutcome {
            searches: latencies.count(),
            latencies,
            seconds,
            cpu_seconds,
            own_cpu_seconds,
            machine_cpu_seconds,
            answers,
            evaluated,
        })
    })
}

struct Shared {
    plan: LoopPlan,
    /// Searches started so far.
    next: AtomicUsize,
    failed: AtomicBool,
    start: Barrier,
    answers: Mutex<Vec<Option<Vec<u32>>>>,
    /// For each of those answers, if the engine reports it.
    evaluated: Mutex<Vec<usize>>,
}

impl Shared {
    /// One connection's loop.
    fn ask(&self, searcher: &mut dyn super::engine::Searcher) -> Result<Latencies, BenchError> {
        let mut latencies = Latencies::new();
        let (mut first_answers, mut evaluated) = (Vec::new(), Vec::new());
        self.start.wait();
        let started = Instant::now();
        let mut asked = started;
        while !self.failed.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.plan.queries && asked - started >= self.plan.at_least {
                break;
            }
            let query = number % self.plan.queries;
            let answer = match searcher.search(query) {
                Ok(answer) => answer,
                Err(error) => {
                    self.failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            };
            let answered = Instant::now();
            latencies.record(answered - asked);
            asked = answered;
            if number == query {
                first_answers.push((query, answer));
                evaluated.extend(searcher.evaluated());
            }
        }
        self.evaluated.lock().expect("no thread panics while it holds the lock").extend(evaluated);
        let mut answers = self.answers.lock().expect("no thread panics while it holds the lock");
        first_answers.into_iter().for_each(|(query, answer)| answers[query] = Some(answer));
        Ok(latencies)
    }
}
