//! `bench dataset`: describes a data set, measures how hard it is, and writes generated ones to files.

use std::path::{Path, PathBuf};

use clap::Args;

use serde::Serialize;

use crate::data::{Dataset, DatasetArgs, Matrix, intrinsic, manifest};
use crate::error::BenchError;
use crate::output::{self, Exported, Origin, ReportFiles, TextTable, cell};
use crate::plot::{Chart, ChartContent};
use crate::progress;

/// The number of neighbours that are written with a data set.
const NEIGHBORS_WRITTEN: usize = 100;

const EXAMPLES: &str = "\
Examples:
  Check the sums and shapes of a data set, and measure how hard it is:
    engramdb bench dataset --dataset datasets/rustdoc-minilm-10k --intrinsic-dimension
  Write a generated one, with exact neighbours and a manifest, for other tools to read:
    engramdb bench dataset --dataset synthetic:100000:384:1 --write /tmp/synthetic";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DatasetCommandArgs {
    #[command(flatten)]
    pub data: DatasetArgs,
    /// Estimate the local intrinsic dimension around the queries, from their 100 nearest rows
    #[arg(long)]
    pub intrinsic_dimension: bool,
    /// Write the data set as .npy files with a manifest into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub write: Option<PathBuf>,
    #[command(flatten)]
    pub files: ReportFiles,
}

/// All results of a run, in the form of its JSON.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    origin: Origin,
    name: String,
    rows: usize,
    dimensions: usize,
    metric: &'static str,
    queries: usize,
    neighbors_given: Option<usize>,
    /// Present only if requested.
    intrinsic_dimension: Option<Hardness>,
}

/// How hard a data set is.
#[derive(Serialize)]
struct Hardness {
    mean: f64,
    median: f64,
    p90: f64,
    /// The median over the queries of the distance to the neighbour of each of these ranks.
    distances: Vec<(usize, f32)>,
}

/// Ranks whose distances are reported.
const RANKS: [usize; 7] = [1, 2, 5, 10, 20, 50, 100];

/// Prints the requested information, and writes the requested files.
pub fn run(arguments: DatasetCommandArgs) -> Result<(), BenchError> {
    if arguments.files.plot.is_some() && !arguments.intrinsic_dimension {
        return Err(BenchError::Usage(
            "--plot draws the distances that --intrinsic-dimension measures: give both".into(),
        ));
    }
    arguments.files.check()?;
    if let Some(directory) = &arguments.write {
        output::check_directory(directory)?;
    }
    let mut dataset = arguments.data.load()?;
    if arguments.write.is_some() && dataset.filtered.is_some() {
        return Err(BenchError::Usage(
            "--write does not support conditions, which the queries of this data set have".into(),
        ));
    }
    let mut report = Report {
        origin: Origin::of("bench dataset"),
        name: dataset.name.clone(),
        rows: dataset.base.rows(),
        dimensions: dataset.dimensions(),
        metric: dataset.metric.redis_name(),
        queries: dataset.queries.rows(),
        neighbors_given: dataset.neighbors.as_ref().map(Matrix::columns),
        intrinsic_dimension: None,
    };
    out!("{}", report.table().render());
    if (arguments.intrinsic_dimension || arguments.write.is_some()) && dataset.filtered.is_none() {
        let computing = progress::spinner("exact neighbours");
        let rows: Vec<u32> = dataset.exact_neighbors(NEIGHBORS_WRITTEN).into_iter().flatten().collect();
        dataset.neighbors = Some(Matrix::new(rows, NEIGHBORS_WRITTEN.min(dataset.base.rows())));
        computing.finish_and_clear();
    }
    if arguments.intrinsic_dimension {
        let hardness = Hardness::of(&dataset)?;
        out!("\n{}", hardness.table().render());
        report.intrinsic_dimension = Some(hardness);
    }
    if let Some(directory) = &arguments.write {
        write(directory, &dataset)?;
    }
    arguments.files.write(&report)
}

impl Report {
    fn table(&self) -> TextTable {
        let mut table =
            TextTable::new(&["data set", "rows", "dimensions", "metric", "queries", "neighbours given"]);
        table.row([
            self.name.clone(),
            self.rows.to_string(),
            self.dimensions.to_string(),
            self.metric.to_ascii_lowercase(),
            self.queries.to_string(),
            self.neighbors_given.map_or_else(|| "-".into(), |columns| columns.to_string()),
        ]);
        table
    }
}

impl Hardness {
    fn of(dataset: &Dataset) -> Result<Self, BenchError> {
        let measured = intrinsic::estimate(dataset).ok_or_else(|| {
            BenchError::Usage(
                "the intrinsic dimension needs rows at different distances; these are all equal".into(),
            )
        })?;
        let distance = |rank| Some((rank, intrinsic::median_distance(dataset, rank)?));
        Ok(Self {
            mean: measured.mean,
            median: measured.median,
            p90: measured.p90,
            distances: RANKS.into_iter().filter_map(distance).collect(),
        })
    }

    fn distance(&self, rank: usize) -> Option<f64> {
        self.distances.iter().find(|(other, _)| *other == rank).map(|&(_, distance)| distance.into())
    }

    fn table(&self) -> TextTable {
        let mut table = TextTable::new(&[
            "local intrinsic dimension",
            "median",
            "p90",
            "distance to 1st",
            "10th",
            "100th",
        ]);
        let [mean, median, p90] = [self.mean, self.median, self.p90].map(|figure| format!("{figure:.1}"));
        let [first, tenth, hundredth] = [1, 10, 100].map(|rank| output::optional(self.distance(rank), 3));
        table.row([mean, median, p90, first, tenth, hundredth]);
        table
    }
}

impl Exported for Report {
    fn csv(&self) -> TextTable {
        let mut headings: Vec<String> =
            ["dataset", "rows", "dimensions", "metric", "queries", "neighbors_given"]
                .into_iter()
                .chain(["intrinsic_dimension_mean", "intrinsic_dimension_median", "intrinsic_dimension_p90"])
                .map(str::to_owned)
                .collect();
        headings.extend(RANKS.map(|rank| format!("distance_to_{rank}")));
        let mut table = TextTable::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
        let hardness = self.intrinsic_dimension.as_ref();
        let mut cells = vec![
            self.name.clone(),
            self.rows.to_string(),
            self.dimensions.to_string(),
            self.metric.to_ascii_lowercase(),
            self.queries.to_string(),
            self.neighbors_given.map(|columns| columns.to_string()).unwrap_or_default(),
            cell(hardness.map(|hardness| hardness.mean), 3),
            cell(hardness.map(|hardness| hardness.median), 3),
            cell(hardness.map(|hardness| hardness.p90), 3),
        ];
        cells.extend(RANKS.map(|rank| cell(hardness.and_then(|hardness| hardness.distance(rank)), 5)));
        table.row_of(cells);
        table
    }

    /// The distances by the rank of the neighbour. Empty if the hardness was not requested.
    fn charts(&self) -> Vec<Chart> {
        let points = |hardness: &Hardness| {
            hardness.distances.iter().map(|&(rank, distance)| (rank as f64, distance.into())).collect()
        };
        let chart = |hardness: &Hardness| Chart {
            title: format!("{}: distance to the neighbours of a query", self.name),
            y_label: format!("distance ({})", self.metric),
            y_log: false,
            content: ChartContent::Lines {
                x_label: "rank of the neighbour".into(),
                x_log: true,
                series: vec![("median".to_owned(), points(hardness))],
            },
        };
        self.intrinsic_dimension.iter().map(chart).collect()
    }
}

fn write(directory: &Path, dataset: &Dataset) -> Result<(), BenchError> {
    let failed = |source| BenchError::Write { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    for (name, bytes) in manifest::files_of(dataset) {
        output::write(&directory.join(name), &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic;

    #[test]
    fn a_written_data_set_is_read_back_the_same() {
        let directory = engramdb_testkit::TempDir::new("bench-write");
        let path = directory.to_str().expect("the temporary directory has a name in UTF-8");
        let arguments = |dataset: &str, write: Option<PathBuf>| DatasetCommandArgs {
            data: DatasetArgs::of(dataset.parse().unwrap()),
            intrinsic_dimension: true,
            write,
            files: ReportFiles::default(),
        };
        run(arguments("synthetic:200:8:1", Some(directory.to_owned()))).unwrap();
        let read = arguments(path, None).data.load().unwrap();
        let made = synthetic::generate(200, 8, 1);
        assert_eq!((read.name, read.metric), (made.name, made.metric));
        assert_eq!((&read.base, &read.queries), (&made.base, &made.queries));
        assert_eq!(read.neighbors.unwrap().columns(), 100);
    }
}
