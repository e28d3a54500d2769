//! `bench dataset`: what a data set is, how hard it is, and how to write a generated one down.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::data::{Dataset, DatasetArgs, Matrix, intrinsic, manifest};
use crate::error::BenchError;
use crate::output::{self, Table};
use crate::progress;

/// Neighbours that are written with a data set.
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
}

/// Prints what was asked for.
pub fn run(arguments: DatasetCommandArgs) -> Result<(), BenchError> {
    let mut dataset = arguments.data.load()?;
    let mut table = Table::new(&["data set", "rows", "dimensions", "metric", "queries", "neighbours given"]);
    table.row([
        dataset.name.clone(),
        dataset.base.rows().to_string(),
        dataset.dimensions().to_string(),
        dataset.metric.redis_name().to_ascii_lowercase(),
        dataset.queries.rows().to_string(),
        dataset.neighbors.as_ref().map_or_else(|| "-".into(), |given| given.columns().to_string()),
    ]);
    print!("{}", table.render());
    if arguments.intrinsic_dimension || arguments.write.is_some() {
        let computing = progress::spinner("exact neighbours");
        let rows: Vec<u32> = dataset.exact_neighbors(NEIGHBORS_WRITTEN).into_iter().flatten().collect();
        dataset.neighbors = Some(Matrix::new(rows, NEIGHBORS_WRITTEN.min(dataset.base.rows())));
        computing.finish_and_clear();
    }
    if arguments.intrinsic_dimension {
        print!("\n{}", hardness(&dataset)?.render());
    }
    arguments.write.as_deref().map_or(Ok(()), |directory| write(directory, &dataset))
}

fn hardness(dataset: &Dataset) -> Result<Table, BenchError> {
    let measured = intrinsic::estimate(dataset).ok_or_else(|| {
        BenchError::Usage(
            "the intrinsic dimension needs rows at different distances; these are all alike".into(),
        )
    })?;
    let mut table =
        Table::new(&["local intrinsic dimension", "median", "p90", "distance to 1st", "10th", "100th"]);
    let [first, tenth, hundredth] =
        [1, 10, 100].map(|rank| match intrinsic::median_distance(dataset, rank) {
            Some(distance) => format!("{distance:.3}"),
            None => "-".into(),
        });
    let figures = [measured.mean, measured.median, measured.p90].map(|figure| format!("{figure:.1}"));
    let [mean, median, p90] = figures;
    table.row([mean, median, p90, first, tenth, hundredth]);
    Ok(table)
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
        let directory = std::env::temp_dir().join(format!("engramdb-bench-write-{}", std::process::id()));
        let path = directory.to_str().expect("the temporary directory has a name in UTF-8");
        let arguments = |dataset: &str, write: Option<PathBuf>| DatasetCommandArgs {
            data: DatasetArgs::of(dataset.parse().unwrap()),
            intrinsic_dimension: true,
            write,
        };
        run(arguments("synthetic:200:8:1", Some(directory.clone()))).unwrap();
        let read = arguments(path, None).data.load().unwrap();
        let made = synthetic::generate(200, 8, 1);
        assert_eq!((read.name, read.metric), (made.name, made.metric));
        assert_eq!((&read.base, &read.queries), (&made.base, &made.queries));
        assert_eq!(read.neighbors.unwrap().columns(), 100);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
