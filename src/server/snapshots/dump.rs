//! Log entries for people and as JSON. Effects show themselves.

use super::text_table::moment;
use engramdb_engine::effect::decode_batch;
use engramdb_engine::log::ReadEntry;
use engramdb_engine::log::claim::ClaimRecord;
use engramdb_engine::log::entry::{EntryKind, PieceKind, split_piece};
use serde_json::{Value, json};

/// How much of an entry is shown.
#[derive(Clone, Copy)]
pub struct Shown {
    /// Effects of an entry.
    pub effects: usize,
    /// Characters of an effect.
    pub width: usize,
}

/// An entry as JSON: header, and the pieces of batches with their effects.
pub fn entry(entry: &ReadEntry, shown: Shown) -> Value {
    let header = &entry.header;
    let mut value = json!({
        "pos": entry.pos.0,
        "kind": format!("{:?}", header.kind),
        "segment": header.segment,
        "epoch": header.epoch.0,
        "index": header.index.0,
        "durable": header.durable.0,
        "engine_time_ms": header.engine_time_ms,
        "first_lsn": header.first_lsn.0,
        "last_lsn": header.last_lsn.0,
        "checksum": format!("{:016x}", header.checksum.0),
        "payload_bytes": entry.payload.len(),
    });
    match header.kind {
        EntryKind::Data => value["batches"] = batches(entry, shown),
        EntryKind::Claim => claim(entry, &mut value),
        _ => {}
    }
    value
}

/// The fields of a Claim; fields of a newer version as bytes.
fn claim(entry: &ReadEntry, value: &mut Value) {
    let Some(claim) = ClaimRecord::decode(&entry.payload) else {
        value["malformed_claim"] = hex(&entry.payload).into();
        return;
    };
    value["node"] = claim.node.into();
    value["claim"] = hex(&claim.id).into();
    if let Some((epoch, index)) = claim.previous {
        (value["previous_epoch"], value["previous_index"]) = (epoch.0.into(), index.0.into());
    }
    for (tag, field) in claim.unknown {
        value[format!("field_{tag}")] = hex(&field).into();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn batches(entry: &ReadEntry, shown: Shown) -> Value {
    let (mut rest, mut lsn, mut left) = (&entry.payload[..], entry.header.first_lsn.0, shown.effects);
    let mut batches = Vec::new();
    while let Some((piece, next)) = split_piece(rest) {
        let mut batch =
            json!({ "lsn": lsn, "piece": format!("{:?}", piece.kind), "bytes": piece.bytes.len() });
        // The others are parts of a batch: its effects may be cut anywhere.
        if piece.kind == PieceKind::Whole {
            let effects = decode_batch(piece.bytes).take(left).map(|record| match record {
                Ok(record) => cut(record.to_string(), shown.width),
                Err(error) => error.to_string(),
            });
            let effects: Vec<String> = effects.collect();
            left -= effects.len();
            batch["effects"] = effects.into();
        }
        batches.push(batch);
        lsn += u64::from(matches!(piece.kind, PieceKind::Whole | PieceKind::Last));
        rest = next;
        if left == 0 {
            break;
        }
    }
    batches.into()
}

fn cut(text: String, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The same entry as lines for people.
pub fn lines(entry: &Value) -> String {
    let field = |name: &str| plain(&entry[name]);
    let mut text = format!(
        "{} {}: epoch {} index {} durable {}, segment {}, {} bytes, batches {} to {}{}\n",
        field("pos"),
        field("kind"),
        field("epoch"),
        field("index"),
        field("durable"),
        field("segment"),
        field("payload_bytes"),
        field("first_lsn"),
        field("last_lsn"),
        // An entry before the first batch of a log has no time yet.
        match entry["engine_time_ms"].as_u64() {
            None | Some(0) => String::new(),
            Some(time) => format!(", at {}", moment(time)),
        },
    );
    if let Some(node) = entry.get("node") {
        text.push_str(&format!("    by {}\n", plain(node)));
    }
    for batch in entry["batches"].as_array().into_iter().flatten() {
        let (lsn, piece, bytes) = (plain(&batch["lsn"]), plain(&batch["piece"]), plain(&batch["bytes"]));
        text.push_str(&format!("    batch {lsn} ({piece}, {bytes} bytes)\n"));
        for effect in batch["effects"].as_array().into_iter().flatten() {
            text.push_str(&format!("        {}\n", plain(effect)));
        }
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
