//! Parquet files in the layout of VectorDBBench.
//!
//! ```text
//! train.parquet, or several train-*.parquet or
//! shuffle_train-*.parquet                   id: integer, emb: list of numbers
//! test.parquet                              id, emb
//! neighbors.parquet (may be missing)        id, neighbors_id: list of the train rows' ids
//! ```
//! The column names are from its README. No file names the metric. The reader supports the codecs that
//! pandas, pyarrow, polars, Spark and DuckDB use by default; brotli is not among them.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::f16;
use parquet::basic::{Compression, LogicalType, Type};
use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::data_type::{DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::{DataError, Dataset, DatasetMetric, Matrix, size};

const FORMAT: &str = "Parquet";
const ID: &str = "id";
const VECTORS: &str = "emb";
const NEIGHBORS: &str = "neighbors_id";
const QUERIES_FILE: &str = "test.parquet";
const NEIGHBORS_FILE: &str = "neighbors.parquet";
/// The number of records decoded at a time.
const BATCH: usize = 10_000;

pub(super) fn is_layout(directory: &Path) -> bool {
    directory.join(QUERIES_FILE).is_file()
}

/// Reads a directory in that layout. The metric is a guess, to be verified with the neighbours.
pub(super) fn read(directory: &Path) -> Result<Dataset, DataError> {
    let mut ids = Vec::new();
    let mut parts = Vec::new();
    for path in train_files(directory)? {
        let file = Columns::open(&path)?;
        file.check_size()?;
        parts.push(file.vectors()?);
        ids.extend(file.ids()?.ok_or_else(|| DataError::format(&path, FORMAT, "it has no column id"))?);
    }
    let columns = parts.first().map_or(1, Matrix::columns);
    if parts.iter().any(|part| part.columns() != columns) {
        let what = "its train files have vectors of different lengths".into();
        return Err(DataError::Inconsistent { name: name(directory), what });
    }
    let base = Matrix::new(parts.iter().flat_map(Matrix::values).copied().collect(), columns);
    drop(parts);
    let queries_path = directory.join(QUERIES_FILE);
    let queries = Columns::open(&queries_path)?;
    let neighbors_path = directory.join(NEIGHBORS_FILE);
    let neighbors = match neighbors_path.exists() {
        true => Some(neighbors(directory, &Columns::open(&neighbors_path)?, &queries, &ids)?),
        false => None,
    };
    Ok(Dataset {
        name: name(directory),
        metric: DatasetMetric::Cosine,
        base,
        queries: queries.vectors()?,
        neighbors,
        filtered: None,
    })
}

/// Reads the column emb of one file as vectors.
pub(super) fn read_vectors(path: &Path) -> Result<Matrix<f32>, DataError> {
    let file = Columns::open(path)?;
    file.check_size()?;
    file.vectors()
}

/// Reads the column neighbors_id of one file as row numbers.
pub(super) fn read_rows(path: &Path) -> Result<Matrix<u32>, DataError> {
    let (values, columns) = Columns::open(path)?.lists(NEIGHBORS, Lists::integers)?;
    let rows = values.into_iter().map(|value| {
        u32::try_from(value)
            .map_err(|_| DataError::format(path, FORMAT, format!("{value} is not a row number")))
    });
    Ok(Matrix::new(rows.collect::<Result<_, _>>()?, columns))
}

fn name(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// In the order of their names; shuffled files are used only if there are no others.
fn train_files(directory: &Path) -> Result<Vec<PathBuf>, DataError> {
    let entries = std::fs::read_dir(directory).map_err(DataError::read(directory))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for prefix in ["train", "shuffle_train"] {
        let of = |name: &&String| {
            name.strip_suffix(".parquet")
                .and_then(|stem| stem.strip_prefix(prefix))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let found: Vec<PathBuf> = names.iter().filter(of).map(|name| directory.join(name)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let what = "it has a test.parquet, but no train.parquet and no train-*.parquet";
    Err(DataError::format(directory, "data set", what))
}

/// The neighbours as rows of the base: files refer to them by id.
fn neighbors(
    directory: &Path,
    file: &Columns<'_>,
    queries: &Columns<'_>,
    ids: &[i64],
) -> Result<Matrix<u32>, DataError> {
    let wrong = |what: String| DataError::Inconsistent { name: name(directory), what };
    if let (Some(given), Some(asked)) = (file.ids()?, queries.ids()?)
        && given != asked
    {
        return Err(wrong("neighbors.parquet and test.parquet have different ids, or another order".into()));
    }
    let (values, columns) = file.lists(NEIGHBORS, Lists::integers)?;
    let row_of: HashMap<i64, u32> = ids.iter().copied().zip(0..).collect();
    if row_of.len() != ids.len() {
        return Err(wrong("an id occurs twice among the train rows".into()));
    }
    let row = |id: i64| {
        row_of
            .get(&id)
            .copied()
            .ok_or_else(|| wrong(format!("a neighbour has the id {id}, which no train row has")))
    };
    Ok(Matrix::new(values.into_iter().map(row).collect::<Result<_, _>>()?, columns))
}

/// A file, read by columns.
struct Columns<'p> {
    path: &'p Path,
    reader: SerializedFileReader<File>,
}

/// The elements of all lists, concatenated, and the number of lists.
#[derive(Default)]
struct Lists<T> {
    values: Vec<T>,
    count: usize,
}

type Read<T> = fn(ColumnReader, &mut Lists<T>) -> Result<(), ParquetError>;

impl<'p> Columns<'p> {
    fn open(path: &'p Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::read(path))?;
        let reader = SerializedFileReader::new(file)
            .map_err(|error| DataError::format(path, FORMAT, error.to_string()))?;
        Ok(Self { path, reader })
    }

    fn wrong(&self, what: impl Into<String>) -> DataError {
        DataError::format(self.path, FORMAT, what)
    }

    /// The index of the leaf column below a column of the schema.
    fn place(&self, column: &str) -> Option<usize> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        schema
            .columns()
            .iter()
            .position(|leaf| leaf.path().parts().first().is_some_and(|root| root == column))
    }

    fn check_size(&self) -> Result<(), DataError> {
        let Some(place) = self.place(VECTORS) else { return Ok(()) };
        let groups = self.reader.metadata().row_groups();
        let values: i64 = groups.iter().map(|group| group.column(place).num_values()).sum();
        // Twice: while the parts of several files are joined, both copies exist.
        let bytes = u128::try_from(values).unwrap_or(0) * size_of::<f32>() as u128 * 2;
        size::check(&self.path.display().to_string(), bytes)
    }

    /// All values of a column, one row group after another.
    fn read<T: Default>(&self, place: usize, read: Read<T>) -> Result<Lists<T>, DataError> {
        let metadata = self.reader.metadata();
        if metadata
            .row_groups()
            .iter()
            .any(|group| group.column(place).compression() == Compression::BROTLI(Default::default()))
        {
            return Err(self.wrong("it is compressed with brotli, which this tool does not read: write it again with zstd or snappy"));
        }
        let mut lists = Lists::default();
        for group in 0..self.reader.num_row_groups() {
            let column = self.reader.get_row_group(group).and_then(|group| group.get_column_reader(place));
            column
                .and_then(|column| read(column, &mut lists))
                .map_err(|error| self.wrong(error.to_string()))?;
        }
        Ok(lists)
    }

    /// A column of lists of equal length: the elements, and that length.
    fn lists<T: Default>(&self, column: &str, read: Read<T>) -> Result<(Vec<T>, usize), DataError> {
        let place = self.place(column).ok_or_else(|| self.wrong(format!("it has no column {column}")))?;
        let lists = self.read(place, read)?;
        let columns = lists.values.len() / lists.count.max(1);
        if columns == 0 || columns * lists.count != lists.values.len() {
            return Err(self.wrong(format!("the lists in {column} are not of one length")));
        }
        Ok((lists.values, columns))
    }

    fn vectors(&self) -> Result<Matrix<f32>, DataError> {
        if let Some(place) = self.place(VECTORS) {
            let leaf = self.reader.metadata().file_metadata().schema_descr().column(place);
            let is_bytes = leaf.physical_type() == Type::FIXED_LEN_BYTE_ARRAY;
            if is_bytes && leaf.logical_type_ref() != Some(&LogicalType::Float16) {
                return Err(self.wrong("emb holds bytes, vectors are numbers"));
            }
        }
        let (values, columns) = self.lists(VECTORS, Lists::floats)?;
        Ok(Matrix::new(values, columns))
    }

    fn ids(&self) -> Result<Option<Vec<i64>>, DataError> {
        let place = self.place(ID);
        place.map(|place| self.read(place, Lists::integers).map(|lists| lists.values)).transpose()
    }
}

impl<T> Lists<T> {
    /// Takes a column of physical type `D`. A missing value is an error: vectors have none.
    fn take<D: DataType>(
        &mut self,
        column: ColumnReader,
        convert: impl Fn(D::T) -> T,
    ) -> Result<(), ParquetError> {
        let mut column = get_typed_column_reader::<D>(column);
        loop {
            let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
            let (records, count, levels) =
                column.read_records(BATCH, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
            if records == 0 {
                return Ok(());
            }
            if count < levels {
                return Err(ParquetError::General("a value is missing (null), or a list is empty".into()));
            }
            let width = values.len() / records;
            let is_even =
                repetitions.iter().enumerate().all(|(place, &level)| (level == 0) == (place % width == 0));
            if width * records != values.len() || !is_even {
                return Err(ParquetError::General("its lists are not of one length".into()));
            }
            self.count += records;
            self.values.extend(values.into_iter().map(&convert));
        }
    }
}

impl Lists<f32> {
    fn floats(column: ColumnReader, lists: &mut Self) -> Result<(), ParquetError> {
        match physical(&column) {
            Type::FLOAT => lists.take::<FloatType>(column, |value| value),
            Type::DOUBLE => lists.take::<DoubleType>(column, |value| value as f32),
            Type::INT32 => lists.take::<Int32Type>(column, |value| value as f32),
            Type::INT64 => lists.take::<Int64Type>(column, |value| value as f32),
            // Byte arrays of any other fixed length are refused in `vectors`.
            Type::FIXED_LEN_BYTE_ARRAY => lists.take::<FixedLenByteArrayType>(column, |value| {
                let bytes = value.data().try_into().expect("a float16 has two bytes");
                f16::from_le_bytes(bytes).to_f32()
            }),
            other => Err(ParquetError::General(format!("it holds {other}, vectors are numbers"))),
        }
    }
}

impl Lists<i64> {
    fn integers(column: ColumnReader, lists: &mut Self) -> Result<(), ParquetError> {
        match physical(&column) {
            Type::INT32 => lists.take::<Int32Type>(column, i64::from),
            Type::INT64 => lists.take::<Int64Type>(column, |value| value),
            other => Err(ParquetError::General(format!("it holds {other}, not integers"))),
        }
    }
}

fn physical(column: &ColumnReader) -> Type {
    match column {
        ColumnReader::BoolColumnReader(_) => Type::BOOLEAN,
        ColumnReader::Int32ColumnReader(_) => Type::INT32,
        ColumnReader::Int64ColumnReader(_) => Type::INT64,
        ColumnReader::Int96ColumnReader(_) => Type::INT96,
        ColumnReader::FloatColumnReader(_) => Type::FLOAT,
        ColumnReader::DoubleColumnReader(_) => Type::DOUBLE,
        ColumnReader::ByteArrayColumnReader(_) => Type::BYTE_ARRAY,
        ColumnReader::FixedLenByteArrayColumnReader(_) => Type::FIXED_LEN_BYTE_ARRAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fixtures").join(name)
    }

    #[test]
    fn the_layout_of_vectordbbench_is_read_by_ids() {
        let dataset = read(&fixture("vectordbbench")).unwrap();
        assert_eq!((dataset.base.shape(), dataset.queries.shape()), ([3, 2], [1, 2]));
        // The train files have the ids 12, 10 and 11 in this order; neighbors.parquet has 12, 11, 10.
        assert_eq!((dataset.base.row(0), dataset.base.row(2)), (&[0.0, 1.0][..], &[0.5, 0.5][..]));
        assert_eq!(dataset.neighbors.unwrap().values(), [0, 2, 1]);
        assert_eq!(dataset.name, "vectordbbench");
    }

    /// As polars writes it: zstd, and fixed-size arrays of float16.
    #[test]
    fn zstd_and_float16_are_read() {
        let matrix = read_vectors(&fixture("float16-zstd.parquet")).unwrap();
        assert_eq!((matrix.shape(), matrix.values()), ([3, 2], &[0.0, 1.0, 1.0, 0.0, 0.5, 0.5][..]));
    }

    #[test]
    fn unsupported_files_are_refused_by_name() {
        let refusal = read_vectors(&fixture("brotli.parquet")).unwrap_err().to_string();
        assert!(
            refusal.contains("brotli.parquet") && refusal.contains("compressed with brotli"),
            "{refusal}"
        );
        let refusal = read_vectors(&fixture("bytes.parquet")).unwrap_err().to_string();
        assert!(refusal.contains("emb holds bytes"), "{refusal}");
        let refusal = read_vectors(&fixture("uneven.parquet")).unwrap_err().to_string();
        assert!(refusal.contains("uneven.parquet") && refusal.contains("not of one length"), "{refusal}");
        let refusal = read_rows(&fixture("vectordbbench/test.parquet")).unwrap_err().to_string();
        assert!(refusal.contains("no column neighbors_id"), "{refusal}");
        assert!(matches!(read_vectors(&fixture("README.md")), Err(DataError::Format { .. })));
    }
}
