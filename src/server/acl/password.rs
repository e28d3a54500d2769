//! Passwords, of which only SHA-256 hashes are kept.

use sha2::{Digest, Sha256};

#[derive(Clone, Copy)]
pub struct PasswordHash([u8; 32]);

impl PasswordHash {
    pub fn of(password: &[u8]) -> PasswordHash {
        PasswordHash(Sha256::digest(password).into())
    }

    /// From 64 lowercase hexadecimal characters.
    pub fn parse(text: &[u8]) -> Option<PasswordHash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        if text.len() != 2 * hash.len() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(PasswordHash(hash))
    }

    /// Takes the same time wherever the two differ.
    pub fn is(&self, other: &PasswordHash) -> bool {
        let different =
            self.0.iter().zip(&other.0).fold(0, |different, (left, right)| different | left ^ right);
        std::hint::black_box(different) == 0
    }

    pub fn hex(&self) -> String {
        use std::fmt::Write;
        let mut text = String::with_capacity(64);
        self.0.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string takes all"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha_256() {
        let hash = PasswordHash::of(b"pw");
        assert_eq!(hash.hex(), "30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4");
        let parsed = PasswordHash::parse(hash.hex().as_bytes()).expect("it is one");
        assert!(parsed.is(&hash) && !parsed.is(&PasswordHash::of(b"")));
        for wrong in ["", "ab", &hash.hex().to_uppercase(), &hash.hex()[1..]] {
            assert!(PasswordHash::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
