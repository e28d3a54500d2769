//! HyperLogLog (Flajolet and others, 2007) as strings in Redis's format: 16,384 registers, estimated with the
//! method of Ertl (2017).
//!
//! ```text
//! "HYLL"       4
//! encoding     1   0 dense, 1 sparse
//! unused       3
//! cardinality  8   little-endian; the top bit means that it is out of date
//! registers        dense: 6 bits each, the lowest first
//!                  sparse: a run of opcodes
//!                    00xxxxxx            x+1 registers that are 0
//!                    01xxxxxx yyyyyyyy   xy+1 registers that are 0
//!                    1vvvvvxx            x+1 registers that are v+1
//! ```
//!
//! Changes of the sparse form give the bytes that Redis gives.

use std::ops::Range;

pub const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// The bits of a hash after those of the index.
const RANK_BITS: u32 = 64 - INDEX_BITS;
/// The highest value of a register.
pub const VALUE_MAX: u8 = RANK_BITS as u8 + 1;
const HEADER_BYTES: usize = 16;
const CARDINALITY: Range<usize> = 8..16;
/// The byte whose top bit says that the cardinality is out of date.
const VALIDITY: usize = 15;
pub const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * 6 / 8;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;

const ZERO_RUN_MAX: usize = 64;
const VALUE_RUN_MAX: usize = 4;
const SPARSE_VALUE_MAX: u8 = 32;

/// A register and a value that it has at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterValue {
    pub index: u16,
    pub value: u8,
}

/// The runs of a sparse form do not make up all registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptHyperLogLog;

/// A run of equal registers in the sparse form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SparseRun {
    /// One byte.
    Zeros(usize),
    /// Two bytes.
    ManyZeros(usize),
    Values(u8, usize),
}

impl SparseRun {
    fn read(bytes: &[u8]) -> Option<SparseRun> {
        let first = *bytes.first()?;
        Some(match first >> 6 {
            0 => SparseRun::Zeros(usize::from(first) + 1),
            1 => SparseRun::ManyZeros((usize::from(first & 0x3F) << 8 | usize::from(*bytes.get(1)?)) + 1),
            _ => SparseRun::Values((first >> 2 & 0x1F) + 1, usize::from(first & 3) + 1),
        })
    }

    fn bytes(self) -> usize {
        if let SparseRun::ManyZeros(_) = self { 2 } else { 1 }
    }

    pub fn registers(self) -> usize {
        let (SparseRun::Zeros(count) | SparseRun::ManyZeros(count) | SparseRun::Values(_, count)) = self;
        count
    }

    fn value(self) -> u8 {
        if let SparseRun::Values(value, _) = self { value } else { 0 }
    }

    fn zeros(count: usize) -> SparseRun {
        if count > ZERO_RUN_MAX { SparseRun::ManyZeros(count) } else { SparseRun::Zeros(count) }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            SparseRun::Zeros(count) => out.push(count as u8 - 1),
            SparseRun::ManyZeros(count) => {
                out.extend([0x40 | ((count - 1) >> 8) as u8, (count - 1) as u8]);
            }
            SparseRun::Values(value, count) => out.push(0x80 | (value - 1) << 2 | (count as u8 - 1)),
        }
    }
}

/// The register of an element, and the value that it gets.
pub fn register_of(element: &[u8]) -> RegisterValue {
    let hash = murmur_hash_64a(element);
    let rank = (hash >> INDEX_BITS | 1 << RANK_BITS).trailing_zeros() + 1;
    RegisterValue { index: (hash % REGISTERS as u64) as u16, value: rank as u8 }
}

/// MurmurHash64A (Appleby), little-endian, with Redis's seed.
fn murmur_hash_64a(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0xADC8_3B19;
    const FACTOR: u64 = 0xC6A4_A793_5BD1_E995;
    const SHIFT: u32 = 47;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(FACTOR);
        word ^= word >> SHIFT;
        hash = (hash ^ word.wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0u64, |tail, &byte| tail << 8 | u64::from(byte));
        hash = (hash ^ tail).wrapping_mul(FACTOR);
    }
    hash ^= hash >> SHIFT;
    hash = hash.wrapping_mul(FACTOR);
    hash ^ hash >> SHIFT
}

/// A HyperLogLog without elements.
pub fn empty() -> Vec<u8> {
    let mut bytes = b"HYLL".to_vec();
    bytes.extend([SPARSE, 0, 0, 0]);
    bytes.resize(HEADER_BYTES, 0);
    SparseRun::ManyZeros(REGISTERS).write(&mut bytes);
    bytes
}

/// True if a string has the header of a HyperLogLog, and the length of its encoding.
pub fn is_hyperloglog(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_BYTES
        && bytes.starts_with(b"HYLL")
        && (bytes[4] == SPARSE || bytes[4] == DENSE && bytes.len() == DENSE_BYTES)
}

pub fn is_dense(bytes: &[u8]) -> bool {
    bytes[4] == DENSE
}

/// The runs of the sparse form.
pub fn sparse_runs(bytes: &[u8]) -> impl Iterator<Item = SparseRun> {
    let mut rest = &bytes[HEADER_BYTES..];
    std::iter::from_fn(move || {
        let run = SparseRun::read(rest)?;
        rest = &rest[run.bytes()..];
        Some(run)
    })
}

/// Raises registers of `into` to those of a HyperLogLog.
pub fn merge_into(into: &mut [u8; REGISTERS], bytes: &[u8]) -> Result<(), CorruptHyperLogLog> {
    if is_dense(bytes) {
        for (index, register) in into.iter_mut().enumerate() {
            *register = (*register).max(dense_register(bytes, index));
        }
        return Ok(());
    }
    let mut index = 0;
    for run in sparse_runs(bytes) {
        let registers = into.get_mut(index..index + run.registers()).ok_or(CorruptHyperLogLog)?;
        registers.iter_mut().for_each(|register| *register = (*register).max(run.value()));
        index += run.registers();
    }
    if index == REGISTERS { Ok(()) } else { Err(CorruptHyperLogLog) }
}

/// The estimate that is stored, if it is up to date.
pub fn stored_cardinality(bytes: &[u8]) -> Option<u64> {
    let stored = bytes[CARDINALITY].first_chunk().map(|stored| u64::from_le_bytes(*stored));
    stored.filter(|_| bytes[VALIDITY] & 0x80 == 0)
}

/// The estimate of the number of elements.
pub fn cardinality(registers: &[u8; REGISTERS]) -> u64 {
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    const COUNT: f64 = REGISTERS as f64;
    let mut histogram = [0u32; 64];
    for register in registers {
        histogram[usize::from(*register)] += 1;
    }
    let of = |value: u32| f64::from(histogram[value as usize]);
    let mut sum = COUNT * tau((COUNT - of(RANK_BITS + 1)) / COUNT);
    for value in (1..=RANK_BITS).rev() {
        sum = (sum + of(value)) * 0.5;
    }
    sum += COUNT * sigma(of(0) / COUNT);
    (ALPHA * COUNT * COUNT / sum).round() as u64
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn dense_register(bytes: &[u8], index: usize) -> u8 {
    let (byte, bit) = (HEADER_BYTES + index * 6 / 8, index * 6 % 8);
    let next = bytes.get(byte + 1).copied().unwrap_or(0);
    ((u16::from(bytes[byte]) | u16::from(next) << 8) >> bit) as u8 & 0x3F
}

fn set_dense_register(bytes: &mut [u8], index: usize, value: u8) {
    let (byte, bit) = (HEADER_BYTES + index * 6 / 8, index * 6 % 8);
    let (mask, value) = (0x3F_u16 << bit, u16::from(value) << bit);
    bytes[byte] = bytes[byte] & !(mask as u8) | value as u8;
    if bit > 2 {
        bytes[byte + 1] = bytes[byte + 1] & !((mask >> 8) as u8) | (value >> 8) as u8;
    }
}

/// Makes a sparse HyperLogLog dense.
pub fn make_dense(bytes: &mut Vec<u8>) -> Result<(), CorruptHyperLogLog> {
    let mut registers = [0; REGISTERS];
    merge_into(&mut registers, bytes)?;
    bytes.truncate(HEADER_BYTES);
    bytes.resize(DENSE_BYTES, 0);
    bytes[4] = DENSE;
    for (index, value) in registers.into_iter().enumerate().filter(|(_, value)| *value != 0) {
        set_dense_register(bytes, index, value);
    }
    Ok(())
}

/// Raises registers; a sparse form that would have more than `sparse_bytes_max` bytes becomes dense. Returns
/// how many have changed. The estimate is out of date then.
pub fn raise(
    bytes: &mut Vec<u8>,
    values: impl Iterator<Item = RegisterValue>,
    sparse_bytes_max: usize,
) -> Result<usize, CorruptHyperLogLog> {
    let mut changed = 0;
    for RegisterValue { index, value } in values {
        let index = usize::from(index) % REGISTERS;
        if !is_dense(bytes) {
            match raise_sparse(bytes, index, value, sparse_bytes_max)? {
                SparseChange::None => continue,
                SparseChange::Changed => {
                    changed += 1;
                    continue;
                }
                SparseChange::TooLarge => make_dense(bytes)?,
            }
        }
        if dense_register(bytes, index) < value {
            set_dense_register(bytes, index, value);
            changed += 1;
        }
    }
    if changed > 0 {
        note_changed(bytes);
    }
    Ok(changed)
}

/// Marks the estimate as out of date.
pub fn note_changed(bytes: &mut [u8]) {
    bytes[VALIDITY] |= 0x80;
}

enum SparseChange {
    None,
    Changed,
    TooLarge,
}

fn raise_sparse(
    bytes: &mut Vec<u8>,
    index: usize,
    value: u8,
    sparse_bytes_max: usize,
) -> Result<SparseChange, CorruptHyperLogLog> {
    if value > SPARSE_VALUE_MAX {
        return Ok(SparseChange::TooLarge);
    }
    let (mut first, mut at, mut before) = (0, HEADER_BYTES, None);
    let run = loop {
        let run = SparseRun::read(&bytes[at..]).ok_or(CorruptHyperLogLog)?;
        if index < first + run.registers() {
            break run;
        }
        first += run.registers();
        before = Some(at);
        at += run.bytes();
    };
    if run.value() >= value {
        return Ok(SparseChange::None);
    }
    let part = |count: usize, out: &mut Vec<u8>| match run {
        _ if count == 0 => {}
        SparseRun::Values(value, _) => SparseRun::Values(value, count).write(out),
        _ => SparseRun::zeros(count).write(out),
    };
    let mut replaced = Vec::with_capacity(5);
    part(index - first, &mut replaced);
    SparseRun::Values(value, 1).write(&mut replaced);
    part(first + run.registers() - 1 - index, &mut replaced);
    let is_longer = replaced.len() > run.bytes();
    if is_longer && bytes.len() + replaced.len() - run.bytes() > sparse_bytes_max {
        return Ok(SparseChange::TooLarge);
    }
    bytes.splice(at..at + run.bytes(), replaced);
    merge_runs(bytes, before.unwrap_or(HEADER_BYTES));
    Ok(SparseChange::Changed)
}

/// Merges equal values among the next five runs from an offset on.
fn merge_runs(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..5 {
        let Some(run) = bytes.get(at..).and_then(SparseRun::read) else { return };
        let SparseRun::Values(value, count) = run else {
            at += run.bytes();
            continue;
        };
        if let Some(SparseRun::Values(next, more)) = bytes.get(at + 1..).and_then(SparseRun::read)
            && next == value
            && count + more <= VALUE_RUN_MAX
        {
            let mut merged = Vec::with_capacity(1);
            SparseRun::Values(value, count + more).write(&mut merged);
            bytes.splice(at..at + 2, merged);
            continue;
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers_of(bytes: &[u8]) -> [u8; REGISTERS] {
        let mut registers = [0; REGISTERS];
        merge_into(&mut registers, bytes).expect("it is sound");
        registers
    }

    #[test]
    fn sparse_and_dense_have_the_same_registers() {
        let (mut sparse, mut dense, mut plain) = (empty(), empty(), [0; REGISTERS]);
        make_dense(&mut dense).expect("it is sound");
        for number in 0..5000u32 {
            let register = register_of(&number.to_le_bytes());
            let expected = plain[usize::from(register.index)] < register.value;
            plain[usize::from(register.index)] = plain[usize::from(register.index)].max(register.value);
            for bytes in [&mut sparse, &mut dense] {
                let changed = raise(bytes, std::iter::once(register), 3000).expect("it is sound");
                assert_eq!(changed, usize::from(expected));
            }
            if number % 500 == 0 {
                assert!(registers_of(&sparse) == plain && registers_of(&dense) == plain, "{number}");
            }
        }
        assert!(is_dense(&sparse) && sparse == dense);
        let estimate = cardinality(&plain);
        assert!((4850..5150).contains(&estimate), "{estimate}");
    }

    #[test]
    fn a_cut_or_long_sparse_form_is_corrupt() {
        let mut bytes = empty();
        raise(&mut bytes, (0..200u32).map(|number| register_of(&number.to_le_bytes())), 3000).expect("sound");
        let mut registers = [0; REGISTERS];
        for length in HEADER_BYTES..bytes.len() {
            assert_eq!(merge_into(&mut registers, &bytes[..length]), Err(CorruptHyperLogLog));
        }
        bytes.push(0);
        assert_eq!(merge_into(&mut registers, &bytes), Err(CorruptHyperLogLog));
    }
}
