//! Cluster commands. One server is the whole database here: each refuses as Redis does without
//! `cluster-enabled`, so that clients that look for a cluster see that this is none.

use super::{Call, Run, session};
use engramdb_engine::command::{Command, CommandError, Outcome, acl, container, flag};

pub const COMMANDS: &[Command] = &[
    connection("ASKING", flag::FAST),
    container("CLUSTER", CLUSTER).group("cluster").docs(
        "3.0.0",
        "Depends on subcommand.",
        "A container for Redis Cluster commands.",
    ),
    connection("READONLY", flag::LOADING | flag::STALE | flag::FAST),
    connection("READWRITE", flag::LOADING | flag::STALE | flag::FAST),
];

const SUMMARY: &str = "Fails: cluster support is disabled.";

const fn connection(name: &'static str, flags: u32) -> Command {
    session(name, "", &Run(is_disabled))
        .group("cluster")
        .flags(flags)
        .acl(acl::CONNECTION)
        .docs("3.0.0", "O(1)", SUMMARY)
}

const fn read(name: &'static str, usage: &'static str, since: &'static str) -> Command {
    session(name, usage, &Run(is_disabled)).group("cluster").flags(flag::STALE).docs(since, "O(1)", SUMMARY)
}

const fn admin(name: &'static str, usage: &'static str, since: &'static str) -> Command {
    let flags = flag::ADMIN | flag::STALE;
    read(name, usage, since).flags(flags).acl(acl::ADMIN | acl::DANGEROUS)
}

const fn change(name: &'static str, usage: &'static str, since: &'static str) -> Command {
    admin(name, usage, since).flags(flag::ADMIN | flag::STALE | flag::NO_ASYNC_LOADING)
}

const VARIES: &[&str] = &["nondeterministic_output"];
const ALWAYS: u32 = flag::LOADING | flag::STALE;

const CLUSTER: &[Command] = &[
    change("ADDSLOTS", "slot+", "3.0.0"),
    change("ADDSLOTSRANGE", "(start-slot end-slot)+", "7.0.0"),
    change("BUMPEPOCH", "", "3.0.0").tips(VARIES),
    admin("COUNT-FAILURE-REPORTS", "node-id", "3.0.0").tips(VARIES),
    read("COUNTKEYSINSLOT", "slot", "3.0.0"),
    change("DELSLOTS", "slot+", "3.0.0"),
    change("DELSLOTSRANGE", "(start-slot end-slot)+", "7.0.0"),
    change("FAILOVER", "[FORCE|TAKEOVER]", "3.0.0"),
    change("FLUSHSLOTS", "", "3.0.0"),
    change("FORGET", "node-id", "3.0.0"),
    read("GETKEYSINSLOT", "slot count", "3.0.0").tips(VARIES),
    read("HELP", "", "5.0.0").flags(ALWAYS),
    read("INFO", "", "3.0.0").tips(VARIES),
    read("KEYSLOT", "name", "3.0.0"),
    read("LINKS", "", "7.0.0").tips(VARIES),
    change("MEET", "ip port [cluster-bus-port]", "3.0.0"),
    read("MYID", "", "3.0.0"),
    read("MYSHARDID", "", "7.2.0").tips(VARIES),
    read("NODES", "", "3.0.0").tips(VARIES),
    admin("REPLICAS", "node-id", "5.0.0").tips(VARIES),
    change("REPLICATE", "node-id", "3.0.0"),
    admin("RESET", "[HARD|SOFT]", "3.0.0").flags(flag::ADMIN | flag::NO_SCRIPT | flag::STALE),
    change("SAVECONFIG", "", "3.0.0"),
    change("SET-CONFIG-EPOCH", "config-epoch", "3.0.0"),
    change("SETSLOT", "slot state [node-id]", "3.0.0"),
    read("SHARDS", "", "7.0.0").flags(ALWAYS).tips(VARIES),
    admin("SLAVES", "node-id", "3.0.0").tips(VARIES),
    read("SLOT-STATS", "filter argument [argument+]", "8.2.0")
        .flags(ALWAYS)
        .tips(&["nondeterministic_output", "request_policy:all_shards"]),
    read("SLOTS", "", "3.0.0").flags(ALWAYS).tips(VARIES),
];

fn is_disabled(_: &mut Call<'_, '_, '_>) -> Outcome {
    Err(CommandError::of("ERR This instance has cluster support disabled"))
}
