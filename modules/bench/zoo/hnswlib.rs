//! hnswlib as a comparison: its PyPI package, run by a Python interpreter of the caller on the same rows.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::ZooArgs;
use super::measure::{Figures, Point, SELF_EF, for_each_document};
use super::subject::Subject;
use crate::data::{DatasetMetric, Matrix, npy};
use crate::error::BenchError;
use crate::interrupt::Undo;
use crate::vectors::recall::mean;

/// Reads rows, ids, queries and documents, and prints labels as JSON. Uses one thread, as the build of our
/// index does.
const SCRIPT: &str = r#"
import json, sys, time
import hnswlib, numpy

directory, space, m, ef_construction, k, self_ef, efs = sys.argv[1:]
read = lambda name: numpy.load(f"{directory}/{name}.npy")
rows = read("rows")
index = hnswlib.Index(space, rows.shape[1])
index.init_index(len(rows), M=int(m), ef_construction=int(ef_construction))
index.set_num_threads(1)
began = time.perf_counter()
index.add_items(rows, read("ids")[:, 0])
seconds = time.perf_counter() - began

def search(vector, k):
    # It refuses to give fewer than k; then as many as it finds are asked for.
    while k > 0:
        try:
            return index.knn_query(vector, k)[0][0].tolist()
        except RuntimeError:
            k -= max(1, k // 50)
    return []

found = []
for ef in map(int, efs.split(",")):
    index.set_ef(max(ef, int(k)))
    found.append([search(query, min(int(k), len(rows))) for query in read("queries")])
itself = []
for vector, (label, wanted) in zip(read("documents"), read("labels")):
    wanted = min(int(wanted), len(rows))
    index.set_ef(max(int(self_ef), wanted))
    itself.append(int(label) in search(vector, wanted))
json.dump({"found": found, "itself": itself, "seconds": seconds}, sys.stdout)
"#;

#[derive(Deserialize)]
struct Answer {
    /// By ef, then by query.
    found: Vec<Vec<Vec<u32>>>,
    itself: Vec<bool>,
    /// The time to insert all rows.
    seconds: f64,
}

/// Its figures on the rows that are live at the end, inserted in order.
pub fn figures(python: &Path, subject: &Subject, arguments: &ZooArgs) -> Result<Figures, BenchError> {
    let directory = std::env::temp_dir().join(format!("engramdb-zoo-{}", std::process::id()));
    let ((), _undo) = Undo::make(|| {
        std::fs::create_dir_all(&directory)
            .map_err(|source| BenchError::Write { path: directory.clone(), source })?;
        let directory = directory.clone();
        let remove = move || match std::fs::remove_dir_all(&directory) {
            Ok(()) => format!("removed {}", directory.display()),
            Err(error) => format!("{} is left: {error}", directory.display()),
        };
        Ok(((), Box::new(remove)))
    })?;
    let outcome = asked(python, &directory, subject, arguments);
    _ = std::fs::remove_dir_all(&directory);
    outcome
}

fn asked(
    python: &Path,
    directory: &Path,
    subject: &Subject,
    arguments: &ZooArgs,
) -> Result<Figures, BenchError> {
    write_files(directory, subject, arguments)?;
    let space = match subject.metric {
        DatasetMetric::L2 => "l2",
        DatasetMetric::Ip => "ip",
        DatasetMetric::Cosine => "cosine",
    };
    let efs: Vec<String> = arguments.ef.iter().map(usize::to_string).collect();
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(directory)
        .arg(space)
        .args([arguments.m, arguments.ef_construction, arguments.k, SELF_EF].map(|number| number.to_string()))
        .arg(efs.join(","))
        .output()
        .map_err(|source| BenchError::Read { path: python.to_owned(), source })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().last().unwrap_or("it printed nothing").to_owned();
        return Err(BenchError::Usage(format!(
            "{} failed: {last}. It needs hnswlib and numpy: pip install hnswlib numpy",
            python.display()
        )));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|error| BenchError::Usage(format!("{} printed no answer: {error}", python.display())))?;
    let itself: Vec<f64> = answer.itself.iter().map(|&found| f64::from(found)).collect();
    let point = |(&ef, found): (&usize, &Vec<Vec<u32>>)| {
        let recalls: Vec<f64> = found
            .iter()
            .enumerate()
            .map(|(query, ids)| subject.exact.recall(query, ids, arguments.k))
            .collect();
        Point { ef, recall: mean(&recalls), evaluated: None }
    };
    Ok(Figures {
        engine: "hnswlib".to_owned(),
        build_seconds: answer.seconds,
        recall: arguments.ef.iter().zip(&answer.found).map(point).collect(),
        itself: (!itself.is_empty()).then(|| mean(&itself)),
        ..Figures::default()
    })
}

fn write_files(directory: &Path, subject: &Subject, arguments: &ZooArgs) -> Result<(), BenchError> {
    let (set, live) = (&subject.set, subject.exact.live());
    let write = |name: &str, bytes: Vec<u8>| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).map_err(|source| BenchError::Write { path, source })
    };
    let matrix = |values: Vec<f32>| npy::write_vectors(&Matrix::new(values, set.dimension));
    write("rows.npy", matrix(live.iter().flat_map(|&id| set.row(id)).copied().collect()))?;
    write("ids.npy", npy::write_rows(&Matrix::new(live.to_vec(), 1)))?;
    write("queries.npy", matrix(set.queries.clone()))?;
    let (mut documents, mut labels) = (Vec::new(), Vec::new());
    let asked = if arguments.recall_only { 0 } else { arguments.documents };
    for_each_document(subject, asked, |id, vector, k| {
        documents.extend_from_slice(vector);
        labels.extend([id, k as u32]);
        Ok(())
    })?;
    write("documents.npy", matrix(documents))?;
    write("labels.npy", npy::write_rows(&Matrix::new(labels, 2)))
}
