//! The benchmark tool on its own, without the server: `cargo run --release -p engramdb-bench --example engramdb-bench`.

use clap::Parser;

#[derive(Parser)]
#[command(name = "engramdb-bench", version, about = "Benchmarks of vector search and of plain keys")]
struct Cli {
    #[command(flatten)]
    bench: engramdb_bench::BenchArgs,
}

fn main() {
    if let Err(error) = engramdb_bench::run(Cli::parse().bench) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}
