//! LZF: what RDB compresses strings with. A stream of literals (a length of up to 32, minus 1, and the
//! bytes) and of copies from what was written before (length and distance in two or three bytes).

use super::error::{Read, damaged};

/// The longest copy, which takes three bytes.
const COPY_BYTES_MAX: usize = 264;
const DISTANCE_MAX: usize = 1 << 13;
const LITERALS_MAX: usize = 32;

/// Appends the content of `bytes`, which has to have `length` bytes, to `out`. It allocates nothing for a
/// claim that `bytes` cannot fulfil.
pub fn decompress(mut bytes: &[u8], length: u64, out: &mut Vec<u8>) -> Read<()> {
    if length > (bytes.len() as u64).saturating_mul(COPY_BYTES_MAX as u64) {
        return damaged("a compressed string claims more than it can hold");
    }
    let start = out.len();
    let end = start + length as usize;
    out.reserve(length as usize);
    while let Some((&control, rest)) = bytes.split_first() {
        let (run, rest) = if control < LITERALS_MAX as u8 {
            let split = rest.split_at_checked(control as usize + 1);
            let Some((literals, rest)) = split else { return damaged("a compressed string is cut off") };
            out.extend_from_slice(literals);
            (0, rest)
        } else {
            let (length, rest) = match (control >> 5, rest) {
                (7, [more, rest @ ..]) => (7 + *more as usize, rest),
                (short, rest) => (short as usize, rest),
            };
            let Some((&low, rest)) = rest.split_first() else {
                return damaged("a compressed string is cut off");
            };
            let distance = ((control as usize & 0x1f) << 8) + low as usize + 1;
            if distance > out.len() - start {
                return damaged("a compressed string refers to before its beginning");
            }
            let from = out.len() - distance;
            let run = length + 2;
            if run <= distance {
                out.extend_from_within(from..from + run);
            } else {
                (from..from + run).for_each(|at| out.push(out[at]));
            }
            (run, rest)
        };
        if out.len() > end {
            return damaged(if run > 0 {
                "a compressed string is longer than it says"
            } else {
                "a compressed string has too many bytes"
            });
        }
        bytes = rest;
    }
    if out.len() == end { Ok(()) } else { damaged("a compressed string is shorter than it says") }
}

/// The compressed form, if it is at least a little shorter.
pub fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    const SLOTS_BITS: u32 = 14;
    let limit = bytes.len().checked_sub(4)?;
    let mut out = Vec::with_capacity(limit);
    // Where three bytes with this hash were seen last, plus one.
    let mut seen = vec![0u32; 1 << SLOTS_BITS];
    let (mut at, mut literals_from) = (0, 0);
    while at + 3 <= bytes.len() {
        let three = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], 0]);
        let slot = (three.wrapping_mul(0x9e37_79b1) >> (32 - SLOTS_BITS)) as usize;
        let before = seen[slot] as usize;
        seen[slot] = (at + 1) as u32;
        let is_match = before > 0
            && at + 1 - before <= DISTANCE_MAX
            && bytes[before - 1..before + 2] == bytes[at..at + 3];
        if !is_match {
            at += 1;
            continue;
        }
        let from = before - 1;
        let same = bytes[from..].iter().zip(&bytes[at..]).take(COPY_BYTES_MAX);
        let run = same.take_while(|(one, other)| one == other).count();
        put_literals(&bytes[literals_from..at], &mut out);
        put_copy(run, at - from - 1, &mut out);
        at += run;
        literals_from = at;
        if out.len() >= limit {
            return None;
        }
    }
    put_literals(&bytes[literals_from..], &mut out);
    (out.len() < limit).then_some(out)
}

fn put_literals(literals: &[u8], out: &mut Vec<u8>) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn put_copy(run: usize, distance: usize, out: &mut Vec<u8>) {
    let (length, high) = (run - 2, (distance >> 8) as u8);
    if length < 7 {
        out.push(((length as u8) << 5) | high);
    } else {
        out.extend_from_slice(&[(7 << 5) | high, (length - 7) as u8]);
    }
    out.push(distance as u8);
}

#[cfg(test)]
mod tests {
    use super::{compress, decompress};

    #[test]
    fn what_was_compressed_comes_back() {
        let mut state = 1u64;
        for length in (0..300).chain([1000, 5000, 70_000]) {
            for alphabet in [1, 2, 5, 250] {
                let content = std::iter::repeat_with(|| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    ((state >> 33) % alphabet) as u8
                });
                let content: Vec<u8> = content.take(length).collect();
                let Some(compressed) = compress(&content) else { continue };
                assert!(compressed.len() < content.len());
                let mut out = b"before".to_vec();
                decompress(&compressed, length as u64, &mut out).expect("it was compressed above");
                assert_eq!(out[6..], content);
                assert!(decompress(&compressed, length as u64 + 1, &mut out).is_err());
                assert!(decompress(&compressed[1..], length as u64, &mut Vec::new()).is_err());
            }
        }
    }
}
