//! The benchmark tool on its own, without the server: `cargo run --release -p engramdb-bench --example
//! engramdb-bench`.

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "engramdb-bench", version, about = "Benchmarks of vector search and of plain keys")]
struct Cli {
    #[command(flatten)]
    bench: engramdb_bench::BenchArgs,
}

fn main() -> ExitCode {
    match engramdb_bench::run(Cli::parse().bench) {
        Ok(()) => ExitCode::from(engramdb_console::end()),
        Err(error) => {
            engramdb_console::note(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
