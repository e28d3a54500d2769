//! The commands that are sent: operations, and a fast encoder of their commands.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::distribution::KeyNumbers;
use engramdb_datasets::SplitMix64;

/// Digits of a key's number; all keys have the same length.
const KEY_DIGITS: usize = 9;
pub const KEYS_MAX: u32 = 1_000_000_000;
pub const ENTITY_FIELDS_MAX: usize = 1000;

/// Random text from which values are taken.
const TEXT_BYTES: usize = 1 << 20;

/// One kind of command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCommand {
    Get,
    Set,
    Hset,
    Hmget,
    Unlink,
}

impl KeyCommand {
    pub const ALL: [KeyCommand; 5] =
        [KeyCommand::Get, KeyCommand::Set, KeyCommand::Hset, KeyCommand::Hmget, KeyCommand::Unlink];

    pub fn name(self) -> &'static str {
        match self {
            KeyCommand::Get => "GET",
            KeyCommand::Set => "SET",
            KeyCommand::Hset => "HSET",
            KeyCommand::Hmget => "HMGET",
            KeyCommand::Unlink => "UNLINK",
        }
    }
}

/// The operation of one measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Single(KeyCommand),
    /// HMGETs; a whole pipeline counts as one operation.
    Lookup,
    /// GET and SET in this proportion.
    Mix {
        reads: u32,
        writes: u32,
    },
}

impl Operation {
    /// Whether the operation sends `command`.
    pub fn uses(&self, command: KeyCommand) -> bool {
        match self {
            Operation::Single(single) => *single == command,
            Operation::Lookup => command == KeyCommand::Hmget,
            Operation::Mix { reads, .. } => {
                command == KeyCommand::Set || (command == KeyCommand::Get && *reads > 0)
            }
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let wrong = || {
            format!("'{given}' is not an operation: write get, set, hset, hmget, lookup or mix:READS:WRITES")
        };
        match given {
            "get" => return Ok(Operation::Single(KeyCommand::Get)),
            "set" => return Ok(Operation::Single(KeyCommand::Set)),
            "hset" => return Ok(Operation::Single(KeyCommand::Hset)),
            "hmget" => return Ok(Operation::Single(KeyCommand::Hmget)),
            "lookup" => return Ok(Operation::Lookup),
            _ => {}
        }
        let (reads, writes) =
            given.strip_prefix("mix:").and_then(|parts| parts.split_once(':')).ok_or_else(wrong)?;
        match (reads.parse::<u16>(), writes.parse::<u16>()) {
            (Ok(reads), Ok(writes)) if reads > 0 || writes > 0 => {
                Ok(Operation::Mix { reads: reads.into(), writes: writes.into() })
            }
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Operation::Single(command) => formatter.write_str(&command.name().to_ascii_lowercase()),
            Operation::Lookup => formatter.write_str("lookup"),
            Operation::Mix { reads, writes } => write!(formatter, "mix:{reads}:{writes}"),
        }
    }
}

/// The sizes of keys and values.
#[derive(Clone, Debug)]
pub struct KeyShape {
    pub prefix: String,
    pub value_size: usize,
    pub fields: usize,
    pub field_size: usize,
}

/// Generates encoded commands; each thread of the generator has its own clone.
#[derive(Clone)]
pub struct KeyWorkload {
    operation: Operation,
    numbers: Numbers,
    encoder: Arc<Encoder>,
}

#[derive(Clone)]
enum Numbers {
    Drawn(KeyNumbers),
    /// Every number once, shared by all clones.
    Counted(Arc<AtomicU32>),
}

impl KeyWorkload {
    pub fn new(operation: Operation, shape: &KeyShape, keys: KeyNumbers) -> Self {
        Self { operation, numbers: Numbers::Drawn(keys), encoder: Arc::new(Encoder::new(shape, None)) }
    }

    /// `command` for each number below `keys`; further commands start again at 0.
    pub fn once_each(command: KeyCommand, shape: &KeyShape, keys: u32) -> Self {
        Self {
            operation: Operation::Single(command),
            numbers: Numbers::Counted(Arc::new(AtomicU32::new(0))),
            encoder: Arc::new(Encoder::new(shape, Some(keys))),
        }
    }

    /// Whether a pipeline counts as one operation.
    pub fn is_lookup(&self) -> bool {
        self.operation == Operation::Lookup
    }

    pub fn restart(&mut self, random: &mut SplitMix64) {
        if let Numbers::Drawn(numbers) = &mut self.numbers {
            numbers.restart(random);
        }
    }

    /// Appends the next command to `output`.
    pub fn push(&mut self, random: &mut SplitMix64, output: &mut Vec<u8>) -> KeyCommand {
        let command = match self.operation {
            Operation::Single(command) => command,
            Operation::Lookup => KeyCommand::Hmget,
            Operation::Mix { reads, writes } => {
                if random.below(u64::from(reads + writes)) < u64::from(reads) {
                    KeyCommand::Get
                } else {
                    KeyCommand::Set
                }
            }
        };
        let number = match &mut self.numbers {
            Numbers::Drawn(numbers) => numbers.next(random),
            Numbers::Counted(next) => next.fetch_add(1, Ordering::Relaxed),
        };
        self.encoder.encode(command, number, random, output);
        command
    }
}

/// The bytes of each command except the key's number and the values.
struct Encoder {
    /// The bytes before the key's digits, in the order of `KeyCommand::ALL`.
    heads: [Vec<u8>; KeyCommand::ALL.len()],
    /// The bytes after the key: the header of SET's value; HMGET's fields; each field of HSET with the header
    /// of its value.
    set_tail: Vec<u8>,
    hmget_tail: Vec<u8>,
    hset_fields: Vec<Vec<u8>>,
    /// The beginning of UNLINK's second key.
    unlink_tail: Vec<u8>,
    value_size: usize,
    field_size: usize,
    text: Vec<u8>,
    /// Counted numbers wrap around here.
    wrap: Option<u32>,
}

impl Encoder {
    fn new(shape: &KeyShape, wrap: Option<u32>) -> Self {
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let key_bytes = shape.prefix.len() + 1 + KEY_DIGITS;
        let head = |command: KeyCommand| {
            let (arguments, kind) = match command {
                KeyCommand::Get => (2, "k"),
                KeyCommand::Set => (3, "k"),
                KeyCommand::Hset => (2 + 2 * shape.fields, "h"),
                KeyCommand::Hmget => (2 + shape.fields, "h"),
                KeyCommand::Unlink => (3, "k"),
            };
            format!("*{arguments}\r\n{}${key_bytes}\r\n{}{kind}", bulk(command.name()), shape.prefix)
                .into_bytes()
        };
        let fields: Vec<String> = (0..shape.fields).map(|field| bulk(&format!("f{field:02}"))).collect();
        let mut random = SplitMix64::new(0, 21, 0);
        let letter = |_| b"abcdefghijklmnopqrstuvwxyz012345"[random.below(32) as usize];
        Self {
            heads: KeyCommand::ALL.map(head),
            set_tail: format!("\r\n${}\r\n", shape.value_size).into_bytes(),
            hmget_tail: format!("\r\n{}", fields.concat()).into_bytes(),
            hset_fields: fields
                .iter()
                .map(|field| format!("\r\n{field}${}\r\n", shape.field_size).into_bytes())
                .collect(),
            unlink_tail: format!("\r\n${key_bytes}\r\n{}h", shape.prefix).into_bytes(),
            value_size: shape.value_size,
            field_size: shape.field_size,
            text: (0..TEXT_BYTES + shape.value_size.max(shape.field_size)).map(letter).collect(),
            wrap,
        }
    }

    fn encode(&self, command: KeyCommand, number: u32, random: &mut SplitMix64, output: &mut Vec<u8>) {
        let number = self.wrap.map_or(number, |keys| number % keys);
        output.extend_from_slice(&self.heads[command as usize]);
        push_digits(output, number);
        match command {
            KeyCommand::Get => output.extend_from_slice(b"\r\n"),
            KeyCommand::Set => {
                output.extend_from_slice(&self.set_tail);
                self.push_value(self.value_size, random, output);
                output.extend_from_slice(b"\r\n");
            }
            KeyCommand::Hmget => output.extend_from_slice(&self.hmget_tail),
            KeyCommand::Hset => {
                for field in &self.hset_fields {
                    output.extend_from_slice(field);
                    self.push_value(self.field_size, random, output);
                }
                output.extend_from_slice(b"\r\n");
            }
            // The string and the hash of this number: one of them exists.
            KeyCommand::Unlink => {
                output.extend_from_slice(&self.unlink_tail);
                push_digits(output, number);
                output.extend_from_slice(b"\r\n");
            }
        }
    }

    fn push_value(&self, bytes: usize, random: &mut SplitMix64, output: &mut Vec<u8>) {
        let from = random.below(TEXT_BYTES as u64) as usize;
        output.extend_from_slice(&self.text[from..from + bytes]);
    }
}

fn push_digits(output: &mut Vec<u8>, mut number: u32) {
    let mut digits = [b'0'; KEY_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    output.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use engramdb_resp::ReplyReader;

    use super::*;
    use crate::keys::distribution::Distribution;

    fn shape() -> KeyShape {
        KeyShape { prefix: "b$:".into(), value_size: 5, fields: 2, field_size: 3 }
    }

    /// The arguments of the next command, as a server would read them.
    fn next(workload: &mut KeyWorkload) -> Vec<String> {
        let mut output = Vec::new();
        workload.push(&mut SplitMix64::new(1, 0, 0), &mut output);
        let mut reader = ReplyReader::new();
        reader.feed(&output);
        let request = reader.next_reply().unwrap().expect("a whole command");
        assert_eq!(reader.next_reply().unwrap(), None, "and nothing more");
        request.as_array().unwrap().iter().map(|argument| argument.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn commands_are_well_formed() {
        let of = |command| next(&mut KeyWorkload::once_each(command, &shape(), 10));
        assert_eq!(of(KeyCommand::Get), ["GET", "b$:k000000000"]);
        assert_eq!(of(KeyCommand::Hmget), ["HMGET", "b$:h000000000", "f00", "f01"]);
        assert_eq!(of(KeyCommand::Unlink), ["UNLINK", "b$:k000000000", "b$:h000000000"]);
        let set = of(KeyCommand::Set);
        assert_eq!((&set[..2], set[2].len()), (&["SET".to_owned(), "b$:k000000000".to_owned()][..], 5));
        let hset = of(KeyCommand::Hset);
        assert_eq!(
            (hset.len(), hset[2].as_str(), hset[3].len(), hset[4].as_str(), hset[5].len()),
            (6, "f00", 3, "f01", 3)
        );
    }

    #[test]
    fn every_key_is_used_once_and_then_again() {
        let mut workload = KeyWorkload::once_each(KeyCommand::Get, &shape(), 3);
        let keys: Vec<String> = (0..4).map(|_| next(&mut workload).pop().unwrap()).collect();
        assert_eq!(keys, ["b$:k000000000", "b$:k000000001", "b$:k000000002", "b$:k000000000"]);
    }

    #[test]
    fn a_mix_keeps_its_proportion() {
        let keys = KeyNumbers::new(Distribution::Uniform, 10, 1);
        let mut workload = KeyWorkload::new("mix:80:20".parse().unwrap(), &shape(), keys);
        let mut random = SplitMix64::new(1, 0, 0);
        let mut output = Vec::new();
        let reads =
            (0..10_000).filter(|_| workload.push(&mut random, &mut output) == KeyCommand::Get).count();
        assert!((7_800..8_200).contains(&reads), "{reads}");
    }

    #[test]
    fn operations_are_written_as_they_are_read() {
        for text in ["get", "set", "hset", "hmget", "lookup", "mix:80:20"] {
            assert_eq!(text.parse::<Operation>().unwrap().to_string(), text);
        }
        for wrong in ["del", "mix", "mix:1", "mix:0:0", "mix:a:b", "mix:1:-1"] {
            assert!(wrong.parse::<Operation>().is_err(), "{wrong}");
        }
    }
}
