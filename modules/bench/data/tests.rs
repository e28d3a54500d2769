//! Data sets as files: written data are read back, and inconsistent data are refused.

use engramdb_testkit::TempDir;

use super::*;

fn small() -> (Matrix<f32>, Matrix<f32>, Matrix<u32>) {
    (
        Matrix::new(vec![0.0, 1.0, 1.0, 0.0, 0.5, 0.5], 2),
        Matrix::new(vec![0.0, 0.9], 2),
        Matrix::new(vec![0, 2, 1], 3),
    )
}

fn load(arguments: &[&str]) -> Result<Dataset, DataError> {
    crate::parse_arguments::<DatasetArgs>(arguments).load()
}

#[test]
fn a_directory_with_a_manifest_is_read_and_checked() {
    let directory = TempDir::new("bench-manifest");
    let (base, queries, neighbors) = small();
    std::fs::write(directory.join("base.npy"), npy::write_vectors(&base)).unwrap();
    std::fs::write(directory.join("queries.npy"), npy::write_vectors(&queries)).unwrap();
    std::fs::write(directory.join("neighbors.npy"), npy::write_rows(&neighbors)).unwrap();
    let sum = manifest::sha256_hex(&npy::write_vectors(&base));
    let manifest = |sum: &str, rows: usize| {
        format!(
            "name = 'small'\nmetric = 'euclidean'\n[base]\nfile = 'base.npy'\nshape = [{rows}, 2]\nsha256 = '{sum}'\n\
             [queries]\nfile = 'queries.npy'\n[neighbors]\nfile = 'neighbors.npy'\n"
        )
    };
    let load_with = |text: String| {
        std::fs::write(directory.join("manifest.toml"), text).unwrap();
        load(&["--dataset", directory.to_str().unwrap()])
    };

    let dataset = load_with(manifest(&sum, 3)).unwrap();
    assert_eq!((dataset.name.as_str(), dataset.metric), ("small", DatasetMetric::L2));
    assert_eq!(
        (&dataset.base, &dataset.queries, dataset.neighbors.as_ref()),
        (&base, &queries, Some(&neighbors))
    );
    assert_eq!(dataset.exact_neighbors(2), [[0, 2]]);

    assert!(matches!(load_with(manifest(&"0".repeat(64), 3)), Err(DataError::Checksum { .. })));
    assert!(load_with(manifest(&sum, 4)).unwrap_err().to_string().contains("[4, 2]"));
    assert!(
        load_with(manifest(&sum, 3) + "[bases]\nfile = 'x'\n").unwrap_err().to_string().contains("bases")
    );
}

#[test]
fn separate_files_are_read_by_their_endings() {
    let directory = TempDir::new("bench-files");
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(directory.join(name), bytes).unwrap();
        directory.join(name).to_str().unwrap().to_owned()
    };
    let base = file("base.bvecs", &[2, 0, 0, 0, 3, 4, 2, 0, 0, 0, 5, 6]);
    let queries = file("queries.u8bin", &[1, 0, 0, 0, 2, 0, 0, 0, 3, 4]);
    let neighbors = file("neighbors.ivecs", &[1, 0, 0, 0, 0, 0, 0, 0]);
    let wrong = file("wrong.ivecs", &[1, 0, 0, 0, 2, 0, 0, 0]);

    let files = ["--base", &base, "--queries", &queries];
    let with_neighbors = [&files[..], &["--neighbors", &neighbors]].concat();
    let dataset = load(&[&with_neighbors[..], &["--metric", "cosine"]].concat()).unwrap();
    assert_eq!(dataset.base.values(), [3.0, 4.0, 5.0, 6.0]);
    assert_eq!((dataset.metric, dataset.exact_neighbors(1)), (DatasetMetric::Cosine, vec![vec![0]]));
    let refusal = load(&[&with_neighbors[..], &["--metric", "ip"]].concat()).unwrap_err();
    assert!(matches!(refusal, DataError::WrongMetric { .. }), "{refusal}");
    assert_eq!(load(&files).unwrap().exact_neighbors(2), [[0, 1]], "computed where none are given");
    let refusal = load(&[&files[..], &["--neighbors", &wrong]].concat()).unwrap_err();
    assert!(refusal.to_string().contains("row 2"), "{refusal}");
    let unknown = load(&["--base", &file("base.csv", b"1,2"), "--queries", &queries]).unwrap_err();
    assert!(unknown.to_string().contains("numpy.save"), "{unknown}");
}

#[test]
fn fewer_rows_have_other_neighbors() {
    let (base, queries, neighbors) = small();
    let mut dataset = Dataset {
        name: "small".into(),
        metric: DatasetMetric::L2,
        base,
        queries,
        neighbors: Some(neighbors),
        filtered: None,
    };
    dataset.truncate(Some(3), None);
    assert!(dataset.neighbors.is_some(), "nothing was cut off");
    dataset.truncate(Some(2), None);
    assert_eq!((dataset.base.rows(), dataset.neighbors.is_none()), (2, true));
    assert_eq!(dataset.exact_neighbors(10), [[0, 1]]);
}

#[test]
fn a_vector_that_is_not_finite_is_refused() {
    let (mut base, queries, _) = small();
    base.values[3] = f32::NAN;
    let (name, metric) = ("small".into(), DatasetMetric::L2);
    let dataset = Dataset { name, metric, base, queries, neighbors: None, filtered: None };
    assert!(dataset.check().unwrap_err().to_string().contains("NaN"));
}

#[test]
fn data_that_exceed_memory_are_refused_before_they_are_generated() {
    for (source, size) in [
        ("synthetic:10000000000:384:1", "15360.0 GB"),
        ("synthetic:18446744073709551615:18446744073709551615:1", "GB"),
    ] {
        let refusal = load(&["--dataset", source]).unwrap_err().to_string();
        assert!(refusal.contains(&format!("{source} needs")) && refusal.contains(size), "{refusal}");
    }
}

#[test]
fn a_set_without_a_metric_has_that_of_its_neighbors() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/data/fixtures/vectordbbench");
    let dataset = load(&["--dataset", directory]).unwrap();
    assert_eq!((dataset.metric, dataset.exact_neighbors(3)), (DatasetMetric::Cosine, vec![vec![0, 2, 1]]));
    let refusal = load(&["--dataset", directory, "--metric", "ip"]).unwrap();
    assert_eq!(refusal.metric, DatasetMetric::Ip, "the order by it is the same");
    let file = |name: &str| format!("{directory}/{name}.parquet");
    let files = ["--base", &file("train-00-of-02"), "--queries", &file("test")];
    assert_eq!(load(&files).unwrap().base.values(), [0.0, 1.0, 1.0, 0.0]);
    let empty = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
    let refusal = load(&["--dataset", empty]).unwrap_err().to_string();
    assert!(refusal.contains("holds no data set"), "{refusal}");
}

#[test]
fn sources_are_distinguished() {
    let synthetic = DatasetSource::Synthetic { rows: 10, dimensions: 4, seed: 9 };
    assert_eq!("synthetic:10:4:9".parse::<DatasetSource>().unwrap(), synthetic);
    assert_eq!("a/b.hdf5".parse::<DatasetSource>().unwrap(), DatasetSource::Hdf5("a/b.hdf5".into()));
    assert_eq!("a/b".parse::<DatasetSource>().unwrap(), DatasetSource::Directory("a/b".into()));
    for wrong in ["synthetic:10:4", "synthetic:0:4:1", "synthetic:a:b:c", "base.npy"] {
        assert!(wrong.parse::<DatasetSource>().is_err(), "{wrong}");
    }
}

#[test]
fn the_committed_data_set_matches_its_manifest() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/rustdoc-minilm-10k");
    let mut dataset = load(&["--dataset", directory]).unwrap();
    assert_eq!((dataset.base.rows(), dataset.queries.rows(), dataset.dimensions()), (10_000, 500, 384));
    dataset.truncate(None, Some(20));
    let given = dataset.exact_neighbors(10);
    dataset.neighbors = None;
    // Equal sentences can be in any order, so rows are compared by distance.
    let distances = truth::Distances::new(&dataset.base, dataset.metric);
    for (query, (given, computed)) in given.iter().zip(dataset.exact_neighbors(10)).enumerate() {
        let distance = distances.from(dataset.queries.row(query));
        for (&a, b) in given.iter().zip(computed) {
            assert!((distance(a) - distance(b)).abs() < 1e-5, "query {query}: rows {a} and {b}");
        }
    }
}
