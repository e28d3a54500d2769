//! HyperLogLog commands. The values are strings; what is in them is in [`crate::types::hyperloglog`].

use super::string_of;
use crate::command::{
    Args, Command, CommandError, Outcome, Reply, WriteHandler, acl, flag, read, shown_word, write,
};
use crate::effect::Effect;
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::hyperloglog::{
    CorruptHyperLogLog, DENSE_BYTES, REGISTERS, RegisterValue, SparseRun, cardinality, empty, is_dense,
    is_hyperloglog, make_dense, merge_into, note_changed, raise, register_of, sparse_runs,
    stored_cardinality,
};
use std::borrow::Cow;

const ADMIN: u32 = acl::ADMIN | acl::DANGEROUS;

pub const COMMANDS: &[Command] = &[
    write_row("PFADD", "key [element+]", pfadd, flag::DENY_OOM | flag::FAST)
        .logs_words(1)
        .event("pfadd")
        .access(&["RW insert"])
        .docs(
            "2.8.9",
            "O(1) for each element",
            "Adds elements to a HyperLogLog; creates it if the key is absent.",
        ),
    read("PFCOUNT", "key+", pfcount).group("hyperloglog").acl(acl::HYPERLOGLOG).access(&["RW access"]).docs(
        "2.8.9",
        "O(1); O(N) for N keys",
        "Estimates the number of elements of the union of HyperLogLogs.",
    ),
    write_row("PFDEBUG", "subcommand key", pfdebug, flag::DENY_OOM | flag::ADMIN)
        .room(room)
        .acl(acl::HYPERLOGLOG | ADMIN)
        .access(&["RW access"])
        .docs("2.8.9", "O(1)", "Shows the registers and the encoding of a HyperLogLog."),
    write_row("PFMERGE", "key+", pfmerge, flag::DENY_OOM)
        .room(room)
        .event("pfadd")
        .access(&["RW access insert", "RO access"])
        .docs("2.8.9", "O(N) for N keys", "Merges HyperLogLogs into one."),
    read("PFSELFTEST", "", pfselftest)
        .group("hyperloglog")
        .flags(flag::ADMIN | flag::UNGATED)
        .acl(acl::HYPERLOGLOG | ADMIN)
        .docs("2.8.9", "O(1)", "Checks that registers keep values, and that estimates are close."),
];

const fn write_row(name: &'static str, usage: &'static str, handler: WriteHandler, flags: u32) -> Command {
    write(name, usage, handler).group("hyperloglog").flags(flags).acl(acl::HYPERLOGLOG)
}

const NO_HYPERLOGLOG: CommandError =
    CommandError::of("WRONGTYPE Key is not a valid HyperLogLog string value.");

fn corrupt(_: CorruptHyperLogLog) -> CommandError {
    CommandError::of("INVALIDOBJ Corrupted HLL object detected")
}

/// The log's room for a whole HyperLogLog, which is dense at most.
fn room(_: &View<'_>, args: Args<'_>) -> usize {
    2 * DENSE_BYTES + args.word(1).len() + args.get(2).map_or(0, |word| word.len())
}

/// The HyperLogLog at a key.
fn hyperloglog<'v>(view: &View<'v>, key: &[u8]) -> Result<Option<Cow<'v, [u8]>>, CommandError> {
    let Some(entry) = view.entry(key) else { return Ok(None) };
    let bytes = string_of(entry)?.to_bytes();
    if is_hyperloglog(&bytes) { Ok(Some(bytes)) } else { Err(NO_HYPERLOGLOG) }
}

fn pfadd(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let sparse_bytes_max = tx.encoding_limits().hyperloglog_sparse_bytes;
    let values: Vec<RegisterValue> = args.from(2).iter().map(|element| register_of(element)).collect();
    let changes = tx.read(|view| {
        let Some(bytes) = hyperloglog(view, key)? else { return Ok(true) };
        let changed = raise(&mut bytes.into_owned(), values.iter().copied(), sparse_bytes_max as usize)
            .map_err(corrupt)?;
        Ok::<bool, CommandError>(changed > 0)
    })?;
    if changes {
        let triple = |value: &RegisterValue| {
            let [low, high] = value.index.to_le_bytes();
            [low, high, value.value]
        };
        let registers: Vec<u8> = values.iter().flat_map(triple).collect();
        tx.apply(Effect::HyperLogLogRaise { key, sparse_bytes_max, registers: &registers });
    }
    reply.integer(i64::from(changes));
    Ok(())
}

fn pfcount(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let mut registers = [0; REGISTERS];
    for key in args.from(1) {
        let Some(bytes) = hyperloglog(view, key)? else { continue };
        if args.len() == 2
            && let Some(stored) = stored_cardinality(&bytes)
        {
            reply.integer(stored as i64);
            return Ok(());
        }
        merge_into(&mut registers, &bytes).map_err(corrupt)?;
    }
    reply.integer(cardinality(&registers) as i64);
    Ok(())
}

fn pfmerge(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let sparse_bytes_max = tx.encoding_limits().hyperloglog_sparse_bytes as usize;
    let (merged, expires_at_ms) = tx.read(|view| {
        let (mut registers, mut any_dense) = ([0; REGISTERS], false);
        for key in args.from(1) {
            let Some(bytes) = hyperloglog(view, key)? else { continue };
            any_dense |= is_dense(&bytes);
            merge_into(&mut registers, &bytes).map_err(corrupt)?;
        }
        let mut merged = hyperloglog(view, key)?.map_or_else(empty, Cow::into_owned);
        if any_dense && !is_dense(&merged) {
            make_dense(&mut merged).map_err(corrupt)?;
        }
        let values = registers.iter().zip(0..).filter(|(value, _)| **value != 0);
        let values = values.map(|(&value, index)| RegisterValue { index, value });
        raise(&mut merged, values, sparse_bytes_max).map_err(corrupt)?;
        note_changed(&mut merged);
        Ok::<_, CommandError>((merged, super::expiry_of(view, key)))
    })?;
    tx.apply(Effect::StringSet { key, value: &merged, expires_at_ms });
    reply.ok();
    Ok(())
}

fn pfdebug(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(2);
    let (bytes, expires_at_ms) = tx.read(|view| {
        let bytes = hyperloglog(view, key)?;
        let bytes = bytes.ok_or(CommandError::of("ERR The specified key does not exist"))?;
        Ok::<_, CommandError>((bytes.into_owned(), super::expiry_of(view, key)))
    })?;
    let was_dense = is_dense(&bytes);
    if args.is(1, "GETREG") || args.is(1, "TODENSE") {
        let mut dense = bytes;
        if !was_dense {
            make_dense(&mut dense).map_err(corrupt)?;
            tx.apply(Effect::StringSet { key, value: &dense, expires_at_ms });
        }
        if args.is(1, "TODENSE") {
            reply.integer(i64::from(!was_dense));
            return Ok(());
        }
        let mut registers = [0; REGISTERS];
        merge_into(&mut registers, &dense).map_err(corrupt)?;
        reply.array(REGISTERS);
        registers.iter().for_each(|&register| reply.integer(register.into()));
    } else if args.is(1, "DECODE") {
        if was_dense {
            return Err(CommandError::of("ERR HLL encoding is not sparse"));
        }
        let shown = |run| match run {
            SparseRun::Zeros(count) => format!("z:{count}"),
            SparseRun::ManyZeros(count) => format!("Z:{count}"),
            SparseRun::Values(value, count) => format!("v:{value},{count}"),
        };
        reply.bulk(sparse_runs(&bytes).map(shown).collect::<Vec<_>>().join(" ").as_bytes());
    } else if args.is(1, "ENCODING") {
        reply.simple(if was_dense { "dense" } else { "sparse" });
    } else {
        let name = shown_word(args.word(1), 128);
        return Err(CommandError::of_parts(&[b"ERR Unknown PFDEBUG subcommand '", name, b"'"]));
    }
    Ok(())
}

fn pfselftest(_: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    const ELEMENTS: u32 = 100_000;
    /// Three standard errors, which are 1.04 / sqrt(16,384) of the number of elements.
    const DEVIATION_MAX: u64 = ELEMENTS as u64 * 3 * 104 / 128 / 100;
    let (mut bytes, mut registers) = (empty(), [0u8; REGISTERS]);
    for number in 0..ELEMENTS {
        let register = register_of(&number.to_le_bytes());
        let kept = &mut registers[usize::from(register.index)];
        *kept = register.value.max(*kept);
        raise(&mut bytes, std::iter::once(register), DENSE_BYTES / 4).map_err(corrupt)?;
    }
    let mut stored = [0; REGISTERS];
    merge_into(&mut stored, &bytes).map_err(corrupt)?;
    let estimate = cardinality(&stored);
    if stored != registers || estimate.abs_diff(u64::from(ELEMENTS)) > DEVIATION_MAX {
        return Err(CommandError::new(format!("TESTFAILED {ELEMENTS} elements are estimated as {estimate}")));
    }
    reply.ok();
    Ok(())
}
