//! Numbers as Redis reads and writes them in values and replies.

/// Reads a signed integer as Redis does: canonical decimal only (no sign `+`, no leading zeros, no spaces).
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    match digits {
        [] | [b'0', _, ..] => return None,
        [b'0'] => return (!negative).then_some(0),
        _ if digits.len() > 19 => return None,
        _ => {}
    }
    let mut magnitude: u64 = 0;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(byte - b'0');
    }
    match negative {
        true if magnitude <= 1 << 63 => Some((magnitude as i64).wrapping_neg()),
        false if magnitude < 1 << 63 => Some(magnitude as i64),
        _ => None,
    }
}

/// Reads a double as Redis does: C's `strtod` over the whole text, infinities allowed, NaN and spaces refused.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    if text.is_empty() || text.starts_with(char::is_whitespace) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let (sign, unsigned) = match lower.as_bytes()[0] {
        b'-' => (-1.0, &lower[1..]),
        b'+' => (1.0, &lower[1..]),
        _ => (1.0, &lower[..]),
    };
    if unsigned == "inf" || unsigned == "infinity" {
        return Some(sign * f64::INFINITY);
    }
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    unsigned.parse::<f64>().ok().map(|value| sign * value).filter(|value| !value.is_nan())
}

/// Writes a double as INCRBYFLOAT does: 17 decimals, trailing zeros cut, never an exponent.
pub fn format_double(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    // Redis computes in 80-bit long double and prints %.17Lf, which hides binary noise such as
    // 10.1 + 0.1 = 10.199999999999999; the shortest text that reads back as the same f64 does the same.
    let mut text = format!("{value}");
    if text == "-0" {
        text = "0".into();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_canonical_decimal_only() {
        for (text, want) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("01", None),
            ("-0", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("-", None),
            ("1a", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn doubles_follow_strtod() {
        for (text, want) in [
            ("1.5", Some(1.5)),
            ("-1e3", Some(-1000.0)),
            ("+inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            (".5", Some(0.5)),
            ("nan", None),
            (" 1", None),
            ("1 ", None),
            ("abc", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(parse_double(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn doubles_print_without_exponent() {
        assert_eq!(format_double(3.0), "3");
        assert_eq!(format_double(5.0e3), "5000");
        assert_eq!(format_double(10.6), "10.6");
        assert_eq!(format_double(-0.0), "0");
        assert_eq!(format_double(1e-7), "0.0000001");
    }
}
