//! Client libraries with the real binary: programs that create, load, query, filter, update, delete and drop
//! as users of the libraries do, and assert each result. `python` and `node` have the programs, and the lock
//! files of the packages. Models are not downloaded: the programs embed texts by hashes of their words.

use engramdb_testkit::machine::{self, Need};
use engramdb_testkit::packages;
use engramdb_testkit::process::{Server, TempDir};
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Runs a program against a server of its own. It prints a line if everything was as expected.
fn run(mut command: Command, arguments: &[&str]) -> Result<(), String> {
    let directory = TempDir::new("library");
    let server = Server::start(directory.path(), &[]);
    let printed = machine::run(command.arg(server.port.to_string()).args(arguments))?;
    let is_as_expected = printed.lines().any(|line| line == "all as expected");
    if is_as_expected { Ok(()) } else { Err(printed) }
}

fn python(lock: &str, program: &str) -> Command {
    let folder = folder("python");
    let mut command = Command::new(packages::python_with(&folder.join(lock)));
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(folder.join(format!("{program}.py")));
    command
}

fn node(program: &str) -> Command {
    let folder = folder("node");
    let modules = packages::node_modules(&folder);
    let mut command = Command::new(machine::program("node", "nodejs"));
    command.env("NODE_PATH", modules).arg(folder.join(format!("{program}.cjs")));
    command
}

/// A program of Debian's package `ruby-sidekiq`; there is no registry of gems.
fn ruby(program: &str) -> Command {
    machine::program("sidekiq", "ruby-sidekiq");
    let mut command = Command::new("ruby");
    command.arg(folder("ruby").join(format!("{program}.rb")));
    command
}

fn passes(command: impl FnOnce() -> Command, arguments: &[&str]) {
    if Need::Packages.is_missing() {
        return;
    }
    run(command(), arguments).unwrap_or_else(|failure| panic!("{failure}"));
}

/// The examples, which end with the same line.
#[test]
fn examples() {
    if Need::Packages.is_missing() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let python = packages::python_with(&folder.join("requirements.txt"));
    for name in ["semantic_search", "rag", "recommender"] {
        let mut command = Command::new(&python);
        command.arg("-B").arg(folder.join(format!("{name}.py")));
        run(command, &[]).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// Tests by name: the function, the lock file or `node`, the program and its arguments.
macro_rules! programs {
    ($($name:ident: python $lock:literal $program:literal $($argument:literal)*;)*) => {
        $(#[test]
        fn $name() {
            passes(|| python($lock, $program), &[$($argument),*]);
        })*
    };
    ($($name:ident: node $program:literal $($argument:literal)*;)*) => {
        $(#[test]
        fn $name() {
            passes(|| node($program), &[$($argument),*]);
        })*
    };
}

programs! {
    agno: python "clients.txt" "agno_store";
    arq: python "applications.txt" "arq_jobs";
    celery: python "applications.txt" "celery_tasks";
    django_redis: python "applications.txt" "django_cache";
    dramatiq: python "applications.txt" "dramatiq_actors";
    flask_session: python "applications.txt" "flask_sessions";
    huey: python "applications.txt" "huey_tasks";
    mem0: python "clients.txt" "mem0_store";
    langchain_cache_history_and_store_on_json: python "clients.txt" "langchain_json";
    langchain_vector_store_and_semantic_cache: python "clients.txt" "langchain_store";
    langgraph_python: python "clients.txt" "langgraph_savers";
    llama_index: python "llama_index.txt" "llama_index_store";
    redis_om_python: python "clients.txt" "redis_om_models";
    redis_py_json_and_aggregations_over_resp2: python "clients.txt" "redis_py_json" "2";
    redis_py_json_and_aggregations_over_resp3: python "clients.txt" "redis_py_json" "3";
    redis_py_patterns_over_resp2: python "clients.txt" "redis_py_patterns" "2";
    redis_py_patterns_over_resp3: python "clients.txt" "redis_py_patterns" "3";
    redis_py_search_over_resp2: python "clients.txt" "redis_py_search" "2";
    redis_py_search_over_resp3: python "clients.txt" "redis_py_search" "3";
    redlock_and_rate_limits: python "applications.txt" "redis_limits";
    redisvl_aggregations: python "clients.txt" "redisvl_aggregations";
    redisvl_caches_and_histories: python "clients.txt" "redisvl_extensions";
    redisvl_hybrid: python "clients.txt" "redisvl_hybrid";
    redisvl_queries: python "clients.txt" "redisvl_queries";
    redisvl_router: python "clients.txt" "redisvl_router";
    rq: python "applications.txt" "rq_jobs";
    valkey_haystack: python "clients.txt" "valkey_haystack";
    valkey_glide_python: python "clients.txt" "valkey_glide";
}

programs! {
    bullmq: node "bullmq";
    ioredis: node "ioredis";
    langgraph_node: node "langgraph_savers";
    node_redis_json_and_aggregations_over_resp2: node "node_redis_json" "2";
    node_redis_json_and_aggregations_over_resp3: node "node_redis_json" "3";
    node_redis_over_resp2: node "node_redis" "2";
    node_redis_over_resp3: node "node_redis" "3";
    redis_om_node: node "redis_om";
    sessions_limits_redlock_and_bee_queue: node "sessions_and_limits";
    valkey_glide_node: node "valkey_glide";
}

#[test]
fn sidekiq() {
    passes(|| ruby("sidekiq_jobs"), &[]);
}
