//! The parts of a value as commands that build it where its key is absent.

use engramdb_rdb::{ModuleItem, RdbError, RdbStreamId, ValuePart, module_name};
use std::collections::BTreeMap;
use std::io;

/// What is done with each command.
pub type EachCommand<'e> = dyn FnMut(&[&[u8]]) -> io::Result<()> + 'e;

/// The most elements, and about the most bytes, of one command.
const PARTS_MAX: usize = 512;
const BYTES_MAX: usize = 256 << 10;

/// The type of RedisJSON's documents.
pub const JSON_TYPE: &str = "ReJSON-RL";

/// Takes the parts of one value, and makes commands.
pub struct CommandMaker<'k> {
    key: &'k [u8],
    /// Elements of the command that is being filled.
    name: &'static str,
    words: Vec<Vec<u8>>,
    bytes: usize,
    /// The fields that expire, by time.
    expiries: BTreeMap<u64, Vec<Vec<u8>>>,
    entries: u64,
    group: Vec<u8>,
    consumer: Vec<u8>,
    module: Option<String>,
}

impl<'k> CommandMaker<'k> {
    pub fn new(key: &'k [u8]) -> CommandMaker<'k> {
        CommandMaker {
            key,
            name: "",
            words: Vec::new(),
            bytes: 0,
            expiries: BTreeMap::new(),
            entries: 0,
            group: Vec::new(),
            consumer: Vec::new(),
            module: None,
        }
    }

    pub fn take(&mut self, part: ValuePart<'_>, each: &mut EachCommand<'_>) -> Result<(), RdbError> {
        match part {
            ValuePart::String(value) => each(&[b"SET", self.key, value])?,
            ValuePart::Item(item) => self.element("RPUSH", &[item], each)?,
            ValuePart::Member(member) => self.element("SADD", &[member], each)?,
            ValuePart::Scored { member, score } => {
                self.element("ZADD", &[score_text(score).as_bytes(), member], each)?;
            }
            ValuePart::Field { name, value, expires_at_ms } => {
                if expires_at_ms != 0 {
                    self.expiries.entry(expires_at_ms).or_default().push(name.to_vec());
                }
                self.element("HSET", &[name, value], each)?;
            }
            ValuePart::Entry { id, fields, .. } => {
                self.entries += 1;
                let id = id_text(id);
                let words = [&b"XADD"[..], self.key, id.as_bytes()];
                each(&[&words[..], fields].concat())?;
            }
            ValuePart::Module { id } => self.module = Some(module_name(id).0),
            ValuePart::ModuleItem(ModuleItem::String(text)) if self.module.as_deref() == Some(JSON_TYPE) => {
                // Older encodings have further items.
                self.module = Some(String::new());
                each(&[b"JSON.SET", self.key, b"$", text])?;
            }
            ValuePart::ModuleItem(_) => {}
            ValuePart::Stream(_) | ValuePart::Group(_) | ValuePart::Consumer(_) | ValuePart::Pending(_) => {
                self.take_of_stream(part, each)?;
            }
        }
        Ok(())
    }

    /// Ends the value.
    pub fn finish(mut self, expires_at_ms: u64, each: &mut EachCommand<'_>) -> io::Result<()> {
        self.flush(each)?;
        for (at_ms, names) in std::mem::take(&mut self.expiries) {
            let at = at_ms.to_string();
            for names in names.chunks(PARTS_MAX) {
                let count = names.len().to_string();
                let mut words =
                    vec![&b"HPEXPIREAT"[..], self.key, at.as_bytes(), b"FIELDS", count.as_bytes()];
                words.extend(names.iter().map(Vec::as_slice));
                each(&words)?;
            }
        }
        if expires_at_ms != 0 {
            each(&[b"PEXPIREAT", self.key, expires_at_ms.to_string().as_bytes()])?;
        }
        Ok(())
    }

    fn element(&mut self, name: &'static str, words: &[&[u8]], each: &mut EachCommand<'_>) -> io::Result<()> {
        self.name = name;
        self.words.extend(words.iter().map(|word| word.to_vec()));
        self.bytes += words.iter().map(|word| word.len()).sum::<usize>();
        let is_full = self.words.len() >= PARTS_MAX * words.len() || self.bytes >= BYTES_MAX;
        if is_full { self.flush(each) } else { Ok(()) }
    }

    fn flush(&mut self, each: &mut EachCommand<'_>) -> io::Result<()> {
        if self.words.is_empty() {
            return Ok(());
        }
        let mut words = vec![self.name.as_bytes(), self.key];
        words.extend(self.words.iter().map(Vec::as_slice));
        each(&words)?;
        self.words.clear();
        self.bytes = 0;
        Ok(())
    }

    fn take_of_stream(&mut self, part: ValuePart<'_>, each: &mut EachCommand<'_>) -> io::Result<()> {
        match part {
            ValuePart::Stream(meta) => {
                if self.entries == 0 {
                    // A stream without entries: one that goes at once.
                    let first = id_text(meta.last_id.max(RdbStreamId { ms: 0, sequence: 1 }));
                    each(&[b"XADD", self.key, b"MAXLEN", b"0", first.as_bytes(), b"-", b"-"])?;
                }
                let added = meta.entries_added.to_string();
                let [last, deleted] = [meta.last_id, meta.max_deleted_id].map(id_text);
                let added: [&[u8]; 2] = [b"ENTRIESADDED", added.as_bytes()];
                let deleted: [&[u8]; 2] = [b"MAXDELETEDID", deleted.as_bytes()];
                let words: [&[u8]; 3] = [b"XSETID", self.key, last.as_bytes()];
                each(&[&words[..], &added, &deleted].concat())
            }
            ValuePart::Group(group) => {
                self.group = group.name.to_vec();
                let last = id_text(group.last_id);
                let read = group.entries_read.map_or(-1, |read| read as i64).to_string();
                let words = [b"XGROUP", &b"CREATE"[..], self.key, group.name, last.as_bytes()];
                each(&[&words[..], &[b"ENTRIESREAD", read.as_bytes()]].concat())
            }
            ValuePart::Consumer(consumer) => {
                self.consumer = consumer.name.to_vec();
                each(&[b"XGROUP", b"CREATECONSUMER", self.key, &self.group, consumer.name])
            }
            ValuePart::Pending(pending) => {
                let [id, at] = [id_text(pending.id), pending.delivered_at_ms.to_string()];
                let count = pending.deliveries.to_string();
                let words = [b"XCLAIM", self.key, &self.group, &self.consumer, b"0", id.as_bytes()];
                let times =
                    [&b"TIME"[..], at.as_bytes(), b"RETRYCOUNT", count.as_bytes(), b"FORCE", b"JUSTID"];
                each(&[&words[..], &times].concat())
            }
            _ => Ok(()),
        }
    }
}

fn id_text(id: RdbStreamId) -> String {
    format!("{}-{}", id.ms, id.sequence)
}

/// The shortest text that reads as the same number.
fn score_text(score: f64) -> String {
    if score.is_infinite() {
        return if score > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    format!("{score:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use engramdb_rdb::{GroupPart, PendingPart, StreamMeta};

    fn commands(parts: &[ValuePart<'_>], expires_at_ms: u64) -> Vec<String> {
        let mut found = Vec::new();
        let mut each = |words: &[&[u8]]| {
            let texts: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
            found.push(texts.join(" "));
            Ok(())
        };
        let mut maker = CommandMaker::new(b"k");
        for part in parts {
            maker.take(*part, &mut each).expect("memory");
        }
        maker.finish(expires_at_ms, &mut each).expect("memory");
        found
    }

    #[test]
    fn every_part_has_its_command() {
        assert_eq!(commands(&[ValuePart::String(b"v")], 7), ["SET k v", "PEXPIREAT k 7"]);
        assert_eq!(commands(&[ValuePart::Item(b"a"), ValuePart::Item(b"b")], 0), ["RPUSH k a b"]);
        let scored = |score| ValuePart::Scored { member: b"m", score };
        let wanted = ["ZADD k 1.5 m -inf m 1e300 m"];
        assert_eq!(commands(&[scored(1.5), scored(f64::NEG_INFINITY), scored(1e300)], 0), wanted);
        let field = |expires_at_ms| ValuePart::Field { name: b"f", value: b"v", expires_at_ms };
        assert_eq!(commands(&[field(0), field(5)], 0), ["HSET k f v f v", "HPEXPIREAT k 5 FIELDS 1 f"]);
        let members = vec![ValuePart::Member(b"m"); PARTS_MAX + 1];
        assert_eq!(commands(&members, 0).len(), 2);
        let id = engramdb_rdb::module_id(JSON_TYPE, 3).expect("a name");
        let document = [ValuePart::Module { id }, ValuePart::ModuleItem(ModuleItem::String(b"{}"))];
        assert_eq!(commands(&document, 0), ["JSON.SET k $ {}"]);
    }

    #[test]
    fn a_stream_comes_with_its_groups() {
        let id = |ms| RdbStreamId { ms, sequence: 1 };
        let meta = StreamMeta { length: 1, last_id: id(9), entries_added: 3, ..StreamMeta::default() };
        let group = GroupPart { name: b"g", last_id: id(5), entries_read: None };
        let pending = PendingPart { id: id(5), delivered_at_ms: 77, deliveries: 2 };
        let parts = [
            ValuePart::Entry { id: id(5), begins_node: true, fields: &[b"a", b"1"] },
            ValuePart::Stream(meta),
            ValuePart::Group(group),
            ValuePart::Consumer(engramdb_rdb::ConsumerPart { name: b"c", seen_at_ms: 1, active_at_ms: None }),
            ValuePart::Pending(pending),
        ];
        let wanted = [
            "XADD k 5-1 a 1",
            "XSETID k 9-1 ENTRIESADDED 3 MAXDELETEDID 0-0",
            "XGROUP CREATE k g 5-1 ENTRIESREAD -1",
            "XGROUP CREATECONSUMER k g c",
            "XCLAIM k g c 0 5-1 TIME 77 RETRYCOUNT 2 FORCE JUSTID",
        ];
        assert_eq!(commands(&parts, 0), wanted);
        assert_eq!(commands(&[ValuePart::Stream(meta)], 0)[0], "XADD k MAXLEN 0 9-1 - -");
    }
}
