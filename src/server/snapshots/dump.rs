//! Log entries and effects, for people and as JSON.

use engramdb_engine::effect::{Effect, List, Record, decode_batch};
use engramdb_engine::log::ReadEntry;
use engramdb_engine::log::entry::{Kind, PieceKind, split_piece};
use serde_json::{Map, Value, json};

/// How much of an entry is shown.
#[derive(Clone, Copy)]
pub struct Shown {
    /// Bytes of a key or value.
    pub bytes: usize,
    /// Effects of an entry, and items of a list.
    pub items: usize,
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
        Kind::Data => value["batches"] = pieces(entry, shown),
        Kind::Claim => value["node"] = text(&entry.payload, shown),
        _ => {}
    }
    value
}

fn pieces(entry: &ReadEntry, shown: Shown) -> Value {
    let (mut rest, mut lsn, mut left) = (&entry.payload[..], entry.header.first_lsn.0, shown.items);
    let mut pieces = Vec::new();
    while let Some((piece, next)) = split_piece(rest) {
        let mut value =
            json!({ "lsn": lsn, "piece": format!("{:?}", piece.kind), "bytes": piece.bytes.len() });
        if piece.kind == PieceKind::Whole {
            let effects: Vec<Value> =
                decode_batch(piece.bytes).take(left).map(|record| effect(record, shown)).collect();
            left -= effects.len();
            value["effects"] = effects.into();
        }
        pieces.push(value);
        lsn += u64::from(matches!(piece.kind, PieceKind::Whole | PieceKind::Last));
        rest = next;
        if left == 0 {
            break;
        }
    }
    pieces.into()
}

fn effect(record: Result<Record<'_>, engramdb_engine::effect::DecodeError>, shown: Shown) -> Value {
    let Record { database, effect } = match record {
        Ok(record) => record,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let mut fields = Map::new();
    let debug = format!("{effect:?}");
    let name = debug.split([' ', '{']).next().unwrap_or_default();
    fields.insert("effect".to_owned(), name.into());
    fields.insert("database".to_owned(), database.into());
    if let Some(key) = effect.key() {
        fields.insert("key".to_owned(), text(key, shown));
    }
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    match effect {
        Effect::Delete { cause, .. } => put("cause", format!("{cause:?}").into()),
        Effect::Expire { expires_at_ms, .. } => put("expires_at_ms", expires_at_ms.into()),
        Effect::StringSet { value, expires_at_ms, .. } => {
            put("value", text(value, shown));
            put("expires_at_ms", expires_at_ms.into());
        }
        Effect::StringAppend { suffix, .. } => put("suffix", text(suffix, shown)),
        Effect::StringWrite { offset, content, .. } => {
            put("offset", offset.into());
            put("content", text(content, shown));
        }
        Effect::HashSet { fields, .. } => put("fields", list(fields, shown)),
        Effect::HashDelete { fields, cause, .. } => {
            put("fields", list(fields, shown));
            put("cause", format!("{cause:?}").into());
        }
        Effect::HashExpire { fields, expires_at_ms, .. } => {
            put("fields", list(fields, shown));
            put("expires_at_ms", expires_at_ms.into());
        }
        Effect::Rename { to, .. } => put("to", text(to, shown)),
        Effect::Copy { to, to_database, .. } => {
            put("to", text(to, shown));
            put("to_database", to_database.into());
        }
        Effect::Move { to_database, .. } => put("to_database", to_database.into()),
        Effect::Flush | Effect::FlushAll => {}
        Effect::SwapDatabases { first, second } => put("databases", json!([first, second])),
        Effect::Module { module, version, kind, payload } => {
            put("module", json!({ "number": module, "version": version, "kind": kind }));
            put("payload", text(payload, shown));
        }
    }
    Value::Object(fields)
}

fn list(items: List<'_>, shown: Shown) -> Value {
    let mut values: Vec<Value> = items.iter().take(shown.items).map(|item| text(item, shown)).collect();
    if items.len() > values.len() {
        values.push(format!("... {} in all", items.len()).into());
    }
    values.into()
}

/// Bytes as text, with escapes where they are none, cut to the limit.
fn text(bytes: &[u8], shown: Shown) -> Value {
    let start = &bytes[..bytes.len().min(shown.bytes)];
    let more = if start.len() < bytes.len() { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    format!("{}{more}", start.escape_ascii()).into()
}

/// The same entry as lines for people.
pub fn lines(entry: &Value) -> String {
    let field = |name: &str| plain(&entry[name]);
    let mut text = format!(
        "{} {}: epoch {} index {} durable {}, segment {}, {} bytes, batches {} to {}, time {}\n",
        field("pos"),
        field("kind"),
        field("epoch"),
        field("index"),
        field("durable"),
        field("segment"),
        field("payload_bytes"),
        field("first_lsn"),
        field("last_lsn"),
        super::table::moment(entry["engine_time_ms"].as_u64().unwrap_or(0)),
    );
    if let Some(node) = entry.get("node") {
        text.push_str(&format!("    by {}\n", plain(node)));
    }
    for batch in entry["batches"].as_array().into_iter().flatten() {
        let (lsn, piece, bytes) = (plain(&batch["lsn"]), plain(&batch["piece"]), plain(&batch["bytes"]));
        text.push_str(&format!("    batch {lsn} ({piece}, {bytes} bytes)\n"));
        for effect in batch["effects"].as_array().into_iter().flatten() {
            let fields = effect.as_object().into_iter().flatten();
            let words: Vec<String> = fields.map(|(name, value)| format!("{name}={}", plain(value))).collect();
            text.push_str(&format!("        {}\n", words.join(" ")));
        }
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
