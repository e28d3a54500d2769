//! Flags of `engramdb import` and `engramdb export`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The arguments of `engramdb import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  engramdb import dump.rdb --dir ./new-data               a file into a new data directory; then: engramdb serve --dir ./new-data
  engramdb import dump.rdb --to 127.0.0.1:6379            the same file into a running server
  engramdb import --from redis://:secret@old-host:6379 --dir ./new-data
                                                          everything that a running Redis or Valkey has at one moment

Files and servers of Redis up to 8.2 and of Valkey up to 9 are read: all data types, expiries of keys and of fields of
hashes, functions, and RedisJSON's documents. The whole file is checked before the first key is imported: damage, and types
of modules that are not known, are refused by name.

--from asks the server for a copy as a replica does (PSYNC), which is of one moment. Where the server does not grant that, all
keys are read one after another (SCAN and DUMP): stop writing to it meanwhile.

A data directory is either filled to the end or is not one: after an interruption, the same command begins anew.
docs/moving.md tells more.")]
pub struct ImportArgs {
    /// An RDB file: dump.rdb, or the base file of an append-only directory
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    pub file: Option<PathBuf>,
    /// A running server to import from: redis://[user:password@]host[:port]
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// The new data directory: empty, or not there yet
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "to", required_unless_present = "to")]
    pub dir: Option<PathBuf>,
    /// A running server to import into, instead of a data directory
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<String>,
    /// Into a server that has keys: keys of the same name are replaced
    #[arg(long, requires = "to")]
    pub replace: bool,
    /// Leave out keys of modules that are not known here, instead of importing nothing
    #[arg(long)]
    pub skip_modules: bool,
    /// With --from: read all keys with SCAN and DUMP, without asking for a copy as a replica
    #[arg(long, requires = "from")]
    pub scan: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// An RDB file, which Redis 7.2 and Valkey 7.2, and later versions, start on
    Rdb,
    /// Commands in Redis's protocol, for `redis-cli --pipe`
    Commands,
}

/// The arguments of `engramdb export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  engramdb export --dir ./engramdb-data dump.rdb                     of a data directory, while no server runs on it
  engramdb export --from 127.0.0.1:6379 dump.rdb                     of a running server
  engramdb export --dir ./engramdb-data --format commands data.resp  then: redis-cli --pipe < data.resp

A Redis starts on the file: redis-server --dir DIRECTORY --dbfilename dump.rdb. Hashes whose fields expire need Redis 7.4 or
later; Valkey reads them from commands. Documents need RedisJSON there. docs/moving.md tells more.")]
pub struct ExportArgs {
    /// The file to write
    pub file: PathBuf,
    /// Data directory
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "from", default_value = "./engramdb-data")]
    pub dir: PathBuf,
    /// A running server, instead of a data directory: redis://[user:password@]host[:port]
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// What to write
    #[arg(long, value_enum, default_value_t = ExportFormat::Rdb)]
    pub format: ExportFormat,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
