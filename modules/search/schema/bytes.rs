//! The fields of the module's formats: little-endian numbers, bytes after their u32 length, lists of bytes
//! after their u32 count.

pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }

    pub fn list(&mut self, items: &[Vec<u8>]) {
        self.u32(items.len() as u32);
        items.iter().for_each(|item| self.bytes(item));
    }

    /// Writes at most eight flags as one byte, the first in the lowest bit.
    pub fn flags(&mut self, flags: &[bool]) {
        self.0.push(flags.iter().rev().fold(0, |bits, &flag| bits << 1 | u8::from(flag)));
    }
}

/// The bytes that are not read yet. Each method returns `None` if too few are left.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    pub fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    pub fn f64(&mut self) -> Option<f64> {
        self.u64().map(f64::from_bits)
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    pub fn list(&mut self) -> Option<Vec<Vec<u8>>> {
        (0..self.u32()?).map(|_| self.bytes().map(<[u8]>::to_vec)).collect()
    }

    pub fn flags(&mut self) -> Option<[bool; 8]> {
        let bits = self.u8()?;
        Some(std::array::from_fn(|bit| bits >> bit & 1 == 1))
    }
}
