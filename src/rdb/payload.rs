//! The payload of DUMP and RESTORE: a value's type and bytes, the version (u16), and the CRC-64 of all before
//! it.

use super::checksum::crc64;
use super::error::RdbError;
use super::part::EachPart;
use super::value::read_value;

const FOOTER_BYTES: usize = 10;
/// The highest versions that are known: of Redis, and of Valkey.
pub(crate) const REDIS_VERSION_MAX: u32 = 12;
pub(crate) const VALKEY_VERSION_MAX: u32 = 80;

/// Whether files and payloads of this version can be read.
pub(crate) fn is_known(version: u32) -> bool {
    (1..=REDIS_VERSION_MAX).contains(&version) || version == VALKEY_VERSION_MAX
}

/// A value as DUMP frames it, whose checksum was verified.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    pub value_type: u8,
    pub version: u32,
    content: &'a [u8],
}

impl<'a> Payload<'a> {
    /// `None` if it was damaged, or is of a version that is not known: Redis does not say which.
    pub fn open(bytes: &'a [u8]) -> Option<Payload<'a>> {
        let (framed, footer) = bytes.split_at_checked(bytes.len().checked_sub(FOOTER_BYTES)?)?;
        let (version, sum) = footer.split_first_chunk::<2>()?;
        let version = u32::from(u16::from_le_bytes(*version));
        let sum = u64::from_le_bytes(sum.try_into().ok()?);
        let (&value_type, content) = framed.split_first()?;
        let is_whole = crc64(0, &bytes[..bytes.len() - 8]) == sum;
        (is_whole && is_known(version)).then_some(Payload { value_type, version, content })
    }

    /// Calls `each` with the parts of the value.
    ///
    /// # Errors
    /// Bytes that are no such value or go on after it, and errors of `each`.
    pub fn read(&self, each: &mut EachPart<'_>) -> Result<(), RdbError> {
        let mut content = self.content;
        read_value((self.value_type, self.version), &mut content, each)?;
        if content.is_empty() { Ok(()) } else { Err(RdbError::Damaged("bytes follow the value")) }
    }

    /// Type and bytes, as a file has them.
    pub fn value(bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(..bytes.len().checked_sub(FOOTER_BYTES)?)
    }
}

/// Frames a value: appends version and checksum to its type and bytes.
pub fn seal(version: u32, value: &mut Vec<u8>) {
    value.extend_from_slice(&(version as u16).to_le_bytes());
    let sum = crc64(0, value);
    value.extend_from_slice(&sum.to_le_bytes());
}
