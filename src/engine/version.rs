//! The Redis version that this server reports to clients: one constant, which HELLO, INFO and MODULE LIST
//! use. Clients choose commands and parsers by it (coredis refuses HSETEX below 8.0, redisvl refuses
//! SVS-VAMANA below 8.2).

/// The version of Redis whose commands and replies this server follows.
pub const REDIS_VERSION: &str = "8.4.0";

/// The same in the numbering of modules' versions, 10,000 * major + 100 * minor + patch: 80400.
pub const REDIS_VERSION_NUMBER: u32 = number(REDIS_VERSION);

const fn number(version: &str) -> u32 {
    let digits = version.as_bytes();
    let (mut number, mut part, mut at) = (0, 0, 0);
    while at < digits.len() {
        if digits[at] == b'.' {
            number = (number + part) * 100;
            part = 0;
        } else {
            part = part * 10 + (digits[at] - b'0') as u32;
        }
        at += 1;
    }
    number + part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_that_of_the_version() {
        assert_eq!(number("8.4.0"), 80_400);
        assert_eq!(number("10.0.12"), 100_012);
        let parts: Vec<u32> = REDIS_VERSION.split('.').map(|part| part.parse().expect("a number")).collect();
        assert_eq!(REDIS_VERSION_NUMBER, parts[0] * 10_000 + parts[1] * 100 + parts[2]);
    }
}
