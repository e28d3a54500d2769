//! What was written comes back, and damage is found.

use super::*;

fn file() -> Vec<u8> {
    let mut file = FileWriter::begin(Vec::new(), 12, &[("redis-ver", "8.2.3")]).expect("memory");
    let mut put = |database, key: &str, expires_at_ms, value: Vec<u8>| {
        file.key(database, key.as_bytes(), expires_at_ms, &value).expect("memory");
    };
    let made = |make: &dyn Fn(&mut Vec<u8>)| {
        let mut value = Vec::new();
        make(&mut value);
        value
    };
    put(0, "text", 0, made(&|out| writer::string(b"some text, some text, some text, some text", out)));
    put(0, "number", 1_900_000_000_000, made(&|out| writer::string(b"-70000", out)));
    put(
        3,
        "list",
        0,
        made(&|out| {
            writer::list(2, out);
            for item in [&b"a"[..], b"17"] {
                writer::put_string(item, out);
            }
        }),
    );
    put(
        3,
        "scores",
        0,
        made(&|out| {
            writer::sorted_set(2, out);
            writer::scored(b"low", f64::NEG_INFINITY, out);
            writer::scored(b"high", 2.5, out);
        }),
    );
    put(
        3,
        "hash",
        0,
        made(&|out| {
            writer::timed_hash(2, 1_900_000_000_000, out);
            writer::timed_field(1_900_000_000_000, (b"a", b"1"), 1_900_000_000_000, out);
            writer::timed_field(1_900_000_000_000, (b"b", b"2"), 0, out);
        }),
    );
    put(3, "stream", 0, made(&stream_value));
    put(
        4,
        "json",
        0,
        made(&|out| {
            writer::module_string(module_id("ReJSON-RL", 3).expect("a name"), b"{\"a\":1}", out);
        }),
    );
    file.function(b"#!lua name=x\n").expect("memory");
    file.finish().expect("memory")
}

fn stream_value(out: &mut Vec<u8>) {
    writer::stream(out);
    let mut stream = StreamWriter::new();
    for number in 0..250u64 {
        let value = number.to_string();
        let fields: [&[u8]; 2] = [if number == 17 { b"other" } else { b"name" }, value.as_bytes()];
        let id = RdbStreamId { ms: 1000 + number / 2, sequence: number % 2 };
        stream.entry(id, number % 100 == 0, fields.into_iter());
    }
    let last_id = RdbStreamId { ms: 2000, sequence: 0 };
    let consumer = ConsumerPart { name: b"me", seen_at_ms: 5, active_at_ms: None };
    let pending =
        PendingPart { id: RdbStreamId { ms: 1000, sequence: 0 }, delivered_at_ms: 4, deliveries: 2 };
    let groups = [GroupRecord {
        group: GroupPart {
            name: b"workers",
            last_id: RdbStreamId { ms: 1000, sequence: 1 },
            entries_read: Some(2),
        },
        consumers: vec![(consumer, vec![pending])],
    }];
    stream.finish(
        &StreamMeta { length: 250, last_id, entries_added: 300, ..StreamMeta::default() },
        &groups,
        out,
    );
}

fn parts(bytes: &[u8]) -> Result<Vec<String>, RdbError> {
    let mut file = RdbFile::open(bytes)?;
    let mut found = Vec::new();
    loop {
        let record = file.next_record()?;
        found.push(format!("{record:?}"));
        match record {
            RdbRecord::End => return Ok(found),
            RdbRecord::Key(header) => file.value(&header, &mut |part| {
                found.push(format!("{part:?}"));
                Ok(())
            })?,
            RdbRecord::ModuleAux { .. } => file.items(&mut |_| {})?,
            RdbRecord::Aux { .. } | RdbRecord::Function(_) => {}
        }
    }
}

#[test]
fn what_was_written_comes_back() {
    let found = parts(&file()).expect("it is whole");
    let has = |text: &str| assert!(found.iter().any(|line| line.contains(text)), "{text}: {found:#?}");
    has(&format!("{:?}", ValuePart::String(b"some text, some text, some text, some text")));
    has(&format!("{:?}", ValuePart::String(b"-70000")));
    has("expires_at_ms: 1900000000000");
    has(&format!("{:?}", ValuePart::Item(b"17")));
    has(&format!("{:?}", ValuePart::Scored { member: b"low", score: f64::NEG_INFINITY }));
    has(&format!("{:?}", ValuePart::Field { name: b"a", value: b"1", expires_at_ms: 1_900_000_000_000 }));
    has(&format!("{:?}", ValuePart::ModuleItem(ModuleItem::String(b"{\"a\":1}"))));
    assert_eq!(found.iter().filter(|line| line.starts_with("Entry")).count(), 250);
    assert_eq!(found.iter().filter(|line| line.contains("begins_node: true")).count(), 3);
    has("deliveries: 2");
}

#[test]
fn damage_at_every_byte_is_an_error() {
    let whole = file();
    for at in 0..whole.len() {
        for change in [1u8, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= change;
            assert!(parts(&damaged).is_err(), "byte {at} xor {change}");
        }
        assert!(parts(&whole[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn claims_are_not_allocated() {
    // A list of 2^60 elements; a string of 2^50 bytes; a compressed one that says it is large.
    for claim in [
        &[&[1, 0x81, 0x10][..], &[0; 7]].concat(),
        &[&[0, 0x81, 0, 4][..], &[0; 6]].concat(),
        &vec![0, 0xc3, 2, 0x80, 0x7f, 0xff, 0xff, 0xff, 0, b'a'],
    ] {
        let mut framed = claim.clone();
        payload::seal(11, &mut framed);
        assert!(payload::Payload::open(&framed).expect("sealed").read(&mut |_| Ok(())).is_err());
    }
}
