//! The report of a churn: each figure of both states side by side, and the difference.

use serde::Serialize;

use super::{ChurnArgs, ChurnEngine};
use crate::latency::Percentiles;
use crate::output::{self, Exported, TextTable};
use crate::own_load::{Heading, MEGABYTE, median};
use crate::plot::{Chart, ChartContent};
use crate::vectors::recall;

/// All results of a run, in the form of its JSON.
#[derive(Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    heading: Heading,
    engine: ChurnEngine,
    rounds: usize,
    k: usize,
    quiet_seconds: u64,
    fresh: State,
    churned: State,
    verdict: Verdict,
}

/// An index with the final documents, and its process. Figures that are not known are `None`.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct State {
    /// Documents sent, all versions counted.
    pub(super) stored: usize,
    /// The time from the first document stored until the index was complete, and the CPU time of the process
    /// meanwhile.
    pub(super) seconds: f64,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) index_bytes: f64,
    /// These three are differences to the empty server.
    pub(super) info_bytes: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    pub(super) peak_bytes: Option<f64>,
    /// Replaced vectors whose memory is not free yet.
    pub(super) replaced: Option<usize>,
    pub(super) points: Vec<Point>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Point {
    pub(super) ef: usize,
    pub(super) recall: f64,
    /// The recall of each query, in the same order in both states.
    #[serde(skip)]
    pub(super) recalls: Vec<f64>,
    #[serde(flatten)]
    pub(super) latency: Percentiles,
    pub(super) cpu_us_per_query: Option<f64>,
}

/// The effects of churn, compared with a fresh build.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Verdict {
    /// The largest loss over all ef; negative if the churned index finds more at every ef.
    recall_loss: f64,
    /// The standard error of that loss, over the queries.
    recall_standard_error: f64,
    index_growth: f64,
    resident_growth: Option<f64>,
    /// The median over all ef of the growth of CPU time per query.
    cpu_growth: Option<f64>,
}

impl Verdict {
    fn of(fresh: &State, churned: &State) -> Self {
        let pairs = || fresh.points.iter().zip(&churned.points);
        let losses = pairs().map(|(fresh, churned)| Paired::of(&churned.recalls, &fresh.recalls));
        let worst = losses.max_by(|one, other| one.mean.total_cmp(&other.mean)).unwrap_or_default();
        let cpu: Option<Vec<f64>> = pairs()
            .map(|(fresh, churned)| growth(fresh.cpu_us_per_query, churned.cpu_us_per_query))
            .collect();
        Self {
            recall_loss: worst.mean,
            recall_standard_error: worst.standard_error,
            index_growth: churned.index_bytes / fresh.index_bytes - 1.0,
            resident_growth: growth(fresh.resident_bytes, churned.resident_bytes),
            cpu_growth: cpu.map(median),
        }
    }
}

/// The difference between two figures of the same queries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Paired {
    mean: f64,
    standard_error: f64,
}

impl Paired {
    fn of(from: &[f64], to: &[f64]) -> Self {
        let differences: Vec<f64> = from.iter().zip(to).map(|(from, to)| to - from).collect();
        let mean = recall::mean(&differences);
        let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
        let count = differences.len().max(2) as f64;
        Self { mean, standard_error: (squares / (count - 1.0) / count).sqrt() }
    }
}

/// Also `None` if the first figure is zero.
fn growth(from: Option<f64>, to: Option<f64>) -> Option<f64> {
    from.zip(to).filter(|&(from, _)| from > 0.0).map(|(from, to)| to / from - 1.0)
}

fn percent(growth: f64) -> String {
    format!("{:+.1} %", growth * 100.0)
}

impl Report {
    pub(super) fn new(heading: Heading, arguments: &ChurnArgs, fresh: State, churned: State) -> Self {
        Self {
            heading,
            engine: arguments.engine,
            rounds: arguments.rounds,
            k: arguments.k,
            quiet_seconds: arguments.quiet_seconds,
            verdict: Verdict::of(&fresh, &churned),
            fresh,
            churned,
        }
    }

    pub(super) fn print(&self) {
        out!("\n{}", self.table().render());
        outln!(
            "recall: at most {:.4} lower (standard error {:.4})",
            self.verdict.recall_loss,
            self.verdict.recall_standard_error
        );
        if let Some(growth) = self.verdict.resident_growth {
            outln!("resident memory: {}", percent(growth));
        }
    }

    fn table(&self) -> TextTable {
        let mut table = TextTable::new(&["", "fresh", "churned", "difference"]);
        for line in self.lines() {
            let difference = line.difference();
            let [fresh, churned] = line.figures.map(|figure| output::optional(figure, line.digits));
            table.row([line.what, fresh, churned, difference]);
        }
        table
    }

    /// The figures of both states.
    fn lines(&self) -> Vec<Line> {
        let of = |what: &str, digits, compared, figure: &dyn Fn(&State) -> Option<f64>| Line {
            what: what.to_owned(),
            digits,
            figures: [&self.fresh, &self.churned].map(figure),
            compared,
        };
        let megabytes = |bytes: Option<f64>| bytes.map(|bytes| bytes / MEGABYTE);
        let cpu_of_one = |state: &State| Some(state.cpu_seconds? * 1e6 / state.stored as f64);
        let mut lines = vec![
            of("documents stored", 0, Compared::Not, &|state| Some(state.stored as f64)),
            of("stored and indexed in s", 1, Compared::Not, &|state| Some(state.seconds)),
            of("CPU s to store", 1, Compared::Not, &|state| state.cpu_seconds),
            of("CPU us a document", 0, Compared::InPercent, &cpu_of_one),
            of("index MB", 1, Compared::InPercent, &|state| megabytes(Some(state.index_bytes))),
            of("INFO MB", 1, Compared::InPercent, &|state| megabytes(state.info_bytes)),
            of("resident MB", 1, Compared::InPercent, &|state| megabytes(state.resident_bytes)),
            of("peak MB", 1, Compared::InPercent, &|state| megabytes(state.peak_bytes)),
            of("replaced", 0, Compared::Not, &|state| Some(state.replaced? as f64)),
        ];
        for (fresh, churned) in self.fresh.points.iter().zip(&self.churned.points) {
            lines.extend(self.lines_of([fresh, churned]));
        }
        lines.retain(|line| line.figures.iter().any(Option::is_some));
        lines
    }

    /// The figures of one ef.
    fn lines_of(&self, points: [&Point; 2]) -> [Line; 4] {
        let of = |what: &str, digits, compared, figure: &dyn Fn(&Point) -> Option<f64>| Line {
            what: format!("{what}, ef {}", points[0].ef),
            digits,
            figures: points.map(figure),
            compared,
        };
        let [fresh, churned] = points;
        let paired = Paired::of(&fresh.recalls, &churned.recalls);
        [
            of(&format!("recall@{}", self.k), 4, Compared::Paired(paired), &|point| Some(point.recall)),
            of("CPU us a query", 0, Compared::InPercent, &|point| point.cpu_us_per_query),
            of("p50 us", 0, Compared::InPercent, &|point| Some(point.latency.p50_us)),
            of("p99 us", 0, Compared::InPercent, &|point| Some(point.latency.p99_us)),
        ]
    }
}

/// One figure of both states.
struct Line {
    what: String,
    digits: usize,
    /// Fresh, churned.
    figures: [Option<f64>; 2],
    compared: Compared,
}

/// How the difference of the two figures is shown.
enum Compared {
    Not,
    Paired(Paired),
    InPercent,
}

impl Line {
    fn difference(&self) -> String {
        let [fresh, churned] = self.figures;
        let difference = match self.compared {
            Compared::Not => None,
            Compared::Paired(Paired { mean, standard_error }) => {
                Some(format!("{mean:+.4} (+- {standard_error:.4})"))
            }
            Compared::InPercent => growth(fresh, churned).map(percent),
        };
        difference.unwrap_or_else(|| "-".to_owned())
    }
}

impl Exported for Report {
    /// The lines of the table, with figures for programs.
    fn csv(&self) -> TextTable {
        let mut table = TextTable::new(&["figure", "fresh", "churned"]);
        for line in self.lines() {
            let [fresh, churned] = line.figures.map(|figure| output::cell(figure, line.digits + 2));
            table.row([line.what, fresh, churned]);
        }
        table
    }

    fn charts(&self) -> Vec<Chart> {
        let states = [("fresh", &self.fresh), ("churned", &self.churned)];
        let chart = |title: &str, y_label: &str, figure: &dyn Fn(&Point) -> Option<f64>| {
            let points = |state: &State| -> Vec<(f64, f64)> {
                state.points.iter().filter_map(|point| Some((point.ef as f64, figure(point)?))).collect()
            };
            let series = states.map(|(name, state)| (name.to_owned(), points(state))).into();
            Chart {
                title: title.to_owned(),
                y_label: y_label.to_owned(),
                y_log: false,
                content: ChartContent::Lines { x_label: "ef".into(), x_log: true, series },
            }
        };
        let recall = format!("recall@{}", self.k);
        vec![
            chart(&format!("{recall}, fresh and churned"), &recall, &|point| Some(point.recall)),
            chart("cost of a search, fresh and churned", "CPU microseconds", &|point| point.cpu_us_per_query),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(recalls: &[f64], index_bytes: f64, resident_bytes: f64) -> State {
        let point = |&recall: &f64| Point {
            ef: 10,
            recall,
            recalls: vec![recall - 0.125, recall + 0.125],
            latency: Percentiles::default(),
            cpu_us_per_query: Some(recall * 100.0),
        };
        State {
            stored: 10,
            cpu_seconds: Some(1.0),
            index_bytes,
            resident_bytes: Some(resident_bytes),
            points: recalls.iter().map(point).collect(),
            ..State::default()
        }
    }

    #[test]
    fn the_verdict_is_the_worst_loss_and_the_growth() {
        let verdict = Verdict::of(&state(&[0.5, 0.5], 100.0, 200.0), &state(&[1.0, 0.25], 125.0, 150.0));
        assert_eq!((verdict.recall_loss, verdict.recall_standard_error), (0.25, 0.0));
        assert_eq!(verdict.index_growth, 0.25);
        assert_eq!(verdict.resident_growth, Some(-0.25));
        assert_eq!(verdict.cpu_growth, Some(1.25 - 1.0), "between 2 and 0.5 times");
        let unknown = State { resident_bytes: None, ..state(&[1.0], 1.0, 1.0) };
        assert_eq!(Verdict::of(&unknown, &unknown).resident_growth, None);
    }

    #[test]
    fn a_difference_has_a_standard_error() {
        let paired = Paired::of(&[0.5, 0.5, 1.0, 0.0], &[1.0, 0.5, 0.5, 1.0]);
        assert_eq!(paired.mean, 0.25);
        // The differences are 0.5, 0, -0.5 and 1: variance 5/12, and a quarter of that for their mean.
        assert!((paired.standard_error - (5.0_f64 / 48.0).sqrt()).abs() < 1e-12, "{paired:?}");
        assert_eq!(Paired::of(&[], &[]), Paired { mean: 0.0, standard_error: 0.0 });
    }

    #[test]
    fn the_table_has_a_line_for_each_known_figure() {
        let arguments: ChurnArgs = crate::parse_arguments(&[]);
        let heading = arguments.load.heading("bench churn", 10, Some(4));
        let fresh = state(&[0.9], MEGABYTE, 2.0 * MEGABYTE);
        let churned = State { stored: 40, cpu_seconds: Some(6.0), ..state(&[0.8], MEGABYTE, 2.2 * MEGABYTE) };
        let report = Report::new(heading, &arguments, fresh, churned);
        let text = report.table().render();
        let line = |what: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(what));
            line.map(|line| line.split_whitespace().collect::<Vec<_>>())
        };
        assert_eq!(
            line("recall@10, ef 10"),
            Some(vec!["0.9000", "0.8000", "-0.1000", "(+-", "0.0000)"]),
            "{text}"
        );
        assert_eq!(line("resident MB"), Some(vec!["2.0", "2.2", "+10.0", "%"]), "{text}");
        assert_eq!(line("CPU us a document"), Some(vec!["100000", "150000", "+50.0", "%"]), "{text}");
        assert_eq!(line("CPU us a query, ef 10"), Some(vec!["90", "80", "-11.1", "%"]), "{text}");
        assert_eq!((line("peak MB"), line("replaced")), (None, None), "{text}");
    }
}
