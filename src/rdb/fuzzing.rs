//! Fuzz targets: functions over bytes that panic when an invariant is violated. The root's tests/it/fuzz.rs
//! calls them with mutated seeds.

use super::file::{RdbFile, RdbRecord};
use super::part::ValuePart;
use super::payload::{Payload, seal};

/// A file reads the same in any pieces, with and without its values being recorded, and never panics.
pub fn fuzz_file(bytes: &[u8]) {
    let whole = read_file(bytes, usize::MAX, usize::MAX);
    assert_eq!(whole, read_file(bytes, 1, usize::MAX));
    assert_eq!(whole, read_file(bytes, 7, 40));
}

fn read_file(bytes: &[u8], piece: usize, raw_bytes_max: usize) -> String {
    let mut shown = String::new();
    let read = |shown: &mut String| {
        let mut file = RdbFile::open(InPieces { bytes, piece })?;
        loop {
            let record = file.next_record()?;
            *shown += &format!("{record:?}\n");
            match record {
                RdbRecord::End => return Ok(()),
                RdbRecord::Key(header) => {
                    let mut parts = String::new();
                    let mut each = |part: ValuePart<'_>| {
                        parts += &format!("{part:?}\n");
                        Ok(())
                    };
                    match file.raw_value(&header, raw_bytes_max)? {
                        None => file.value(&header, &mut each)?,
                        Some(mut raw) => {
                            seal(file.version(), &mut raw.bytes);
                            Payload::open(&raw.bytes).expect("sealed above").read(&mut each)?;
                        }
                    }
                    *shown += &parts;
                }
                RdbRecord::ModuleAux { .. } => file.items(&mut |item| *shown += &format!("{item:?}\n"))?,
                RdbRecord::Aux { .. } | RdbRecord::Function(_) => {}
            }
        }
    };
    let end: Result<(), super::RdbError> = read(&mut shown);
    shown + &format!("{}", end.is_ok())
}

struct InPieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl std::io::Read for InPieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.piece.min(buffer.len()).min(self.bytes.len());
        let (taken, rest) = self.bytes.split_at(count);
        buffer[..count].copy_from_slice(taken);
        self.bytes = rest;
        Ok(count)
    }
}

/// A value of any type and version reads without a panic, whatever its bytes. The first two bytes say type
/// and version.
pub fn fuzz_value(bytes: &[u8]) {
    let Some((&[value_type, version], content)) = bytes.split_first_chunk::<2>() else { return };
    let version = if version % 2 == 0 { 12 } else { 80 };
    let mut framed = [&[value_type % 32], content].concat();
    seal(version, &mut framed);
    let mut parts = 0u64;
    let payload = Payload::open(&framed).expect("sealed above");
    _ = payload.read(&mut |_| {
        parts += 1;
        Ok(())
    });
    // Compressed bytes are at most 264 times as many, and each part takes one of them.
    assert!(parts <= 264 * framed.len() as u64, "no part comes from nothing");
}
