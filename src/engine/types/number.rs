//! Numbers as Redis parses and formats them in values and replies.

/// Parses a signed integer as Redis does: canonical decimal only (no sign `+`, no leading zeros, no spaces).
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

/// Parses a double as Redis does: C's `strtod` over the whole text, infinities allowed, NaN and spaces
/// refused.
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
    // Digits that overflow are out of strtod's range, and do not become infinite.
    unsigned.parse::<f64>().ok().map(|value| sign * value).filter(|value| value.is_finite())
}

/// Parses a score as Redis does: C's `strtod` over the whole text, hexadecimal numbers and infinities
/// included; NaN, spaces and numbers out of the range of doubles are refused.
pub fn parse_score(text: &[u8]) -> Option<f64> {
    read_double(text).and_then(|(value, is_in_range)| is_in_range.then_some(value))
}

/// Parses a bound of scores: as a score, but that nothing counts as 0, and numbers out of the range as
/// infinity or 0.
pub fn parse_score_bound(text: &[u8]) -> Option<f64> {
    if text.is_empty() { Some(0.0) } else { read_double(text).map(|(value, _)| value) }
}

/// What `strtod` reads, and whether it is in the range of doubles.
fn read_double(text: &[u8]) -> Option<(f64, bool)> {
    let (sign, unsigned) = match text {
        [b'-', unsigned @ ..] => (-1.0, unsigned),
        [b'+', unsigned @ ..] => (1.0, unsigned),
        unsigned => (1.0, unsigned),
    };
    if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
        return Some((sign * f64::INFINITY, true));
    }
    if !unsigned.first().is_some_and(|first| first.is_ascii_digit() || *first == b'.') {
        return None;
    }
    let (value, has_digits) = match unsigned {
        [b'0', b'x' | b'X', digits @ ..] => read_hexadecimal(digits)?,
        _ => {
            let mantissa = unsigned.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
            let has_digits = mantissa.iter().any(|digit| (b'1'..=b'9').contains(digit));
            (std::str::from_utf8(unsigned).ok()?.parse().ok()?, has_digits)
        }
    };
    Some((sign * value, value.is_finite() && (value != 0.0 || !has_digits)))
}

/// The digits of a hexadecimal number after its prefix, and whether one of them is not 0.
fn read_hexadecimal(digits: &[u8]) -> Option<(f64, bool)> {
    let at = digits.iter().position(|byte| matches!(byte, b'p' | b'P'));
    let (mantissa, exponent) = match at {
        Some(at) => (&digits[..at], std::str::from_utf8(&digits[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (mut value, mut shift, mut count, mut is_fraction) = (0u64, 0i32, 0, false);
    for &byte in mantissa {
        if byte == b'.' && !is_fraction {
            is_fraction = true;
            continue;
        }
        let digit = u64::from(char::from(byte).to_digit(16)?);
        count += 1;
        // Digits beyond 60 bits only say which way to round.
        if value >> 60 == 0 {
            value = value << 4 | digit;
            shift -= if is_fraction { 4 } else { 0 };
        } else {
            value |= u64::from(digit != 0);
            shift += if is_fraction { 0 } else { 4 };
        }
    }
    let power = exponent.saturating_add(shift).clamp(-5000, 5000);
    // In two steps, so that a denormal result is not lost on the way.
    let scaled = value as f64 * 2f64.powi(power / 2) * 2f64.powi(power - power / 2);
    (count > 0).then_some((scaled, value != 0))
}

/// Formats a score as Redis's replies do: integers up to 2^62 in full, else the fewest digits that read back
/// as the same value, with an exponent by the rules of the fpconv library.
pub fn format_score(value: f64) -> String {
    const WHOLE_MAX: f64 = (1i64 << 62) as f64;
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_infinite() {
        return format!("{sign}inf");
    }
    if value == 0.0 {
        return format!("{sign}0");
    }
    if value.abs() <= WHOLE_MAX && value.fract() == 0.0 {
        return (value as i64).to_string();
    }
    let (digits, exponent) = digits_of(format!("{:e}", value.abs()));
    let count = digits.len() as i32;
    let last_exponent = exponent - count + 1;
    if last_exponent >= 0 && exponent < count + 7 {
        return format!("{sign}{digits}{}", "0".repeat(last_exponent as usize));
    }
    if last_exponent < 0 && (last_exponent > -7 || exponent.abs() < 4) {
        return format!("{sign}{}", with_point(&digits, exponent));
    }
    format!("{sign}{}e{exponent:+}", with_point(&digits, 0))
}

/// Formats a score with 17 significant digits, as C's `%.17g` does.
pub fn format_score_17(value: f64) -> String {
    if value.is_infinite() || value == 0.0 {
        return format_score(value);
    }
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let (digits, exponent) = digits_of(format!("{:.16e}", value.abs()));
    let digits = digits.trim_end_matches('0');
    if (-4..17).contains(&exponent) {
        return format!("{sign}{}", with_point(digits, exponent));
    }
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{}e{exponent_sign}{:02}", with_point(digits, 0), exponent.unsigned_abs())
}

/// The digits, without a point, and the power of ten of the first, of a number in scientific notation.
fn digits_of(text: String) -> (String, i32) {
    let (digits, exponent) = text.split_once('e').expect("scientific notation has an exponent");
    (digits.replace('.', ""), exponent.parse().expect("an exponent is a number"))
}

/// Digits with the point placed; the first one is of this power of ten.
fn with_point(digits: &str, exponent: i32) -> String {
    let Ok(exponent) = usize::try_from(exponent) else {
        return format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize));
    };
    match digits.split_at_checked(exponent + 1) {
        Some((whole, "")) => whole.to_owned(),
        Some((whole, fraction)) => format!("{whole}.{fraction}"),
        None => format!("{digits}{}", "0".repeat(exponent + 1 - digits.len())),
    }
}

/// Formats a double without an exponent, with the fewest digits that read back as the same value.
pub fn format_double(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    // Adding zero turns -0 into 0.
    format!("{}", value + 0.0)
}

/// The number of decimals that INCRBYFLOAT keeps.
const DECIMALS: i32 = 17;

/// The sum of two numbers in INCRBYFLOAT's format: up to 17 decimals, without trailing zeros, never with an
/// exponent. `None` if one is not a number or the sum is infinite or NaN.
///
/// Redis adds in 80-bit long double, whose rounding errors show from 19 digits on; this adds the decimals
/// themselves, so that 0.1 + 0.2 is 0.3 and 1234 + 0.1 is 1234.1. Beyond 10^21 it adds doubles.
pub fn add_decimals(left: &[u8], right: &[u8]) -> Option<String> {
    let (left_value, right_value) = (parse_double(left)?, parse_double(right)?);
    let exact = parse_decimal(left).zip(parse_decimal(right));
    if let Some(sum) = exact.and_then(|(left, right)| left.checked_add(right)) {
        return Some(format_decimal(sum));
    }
    Some(left_value + right_value).filter(|sum| sum.is_finite()).map(format_double)
}

/// Parses a decimal number in units of 10^-17, rounding finer digits; `None` if it is out of range.
fn parse_decimal(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(place) => (&text[..place], text[place + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // The digit for 10^0 is at `whole.len() - 1`; digits beyond `kept` are rounded.
    let kept = i64::from(exponent) + whole.len() as i64 + i64::from(DECIMALS);
    let mut units: i128 = 0;
    let mut place = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = char::from(digit).to_digit(10)?;
        if place < kept {
            units = units.checked_mul(10)?.checked_add(i128::from(digit))?;
        } else if place == kept && digit >= 5 {
            units += 1;
        }
        place += 1;
    }
    if units != 0 && place < kept {
        units = units.checked_mul(10i128.checked_pow(u32::try_from(kept - place).ok()?)?)?;
    }
    Some(if negative { -units } else { units })
}

fn format_decimal(units: i128) -> String {
    let one = 10u128.pow(DECIMALS as u32);
    let magnitude = units.unsigned_abs();
    let sign = if units < 0 { "-" } else { "" };
    let text = format!("{sign}{}.{:017}", magnitude / one, magnitude % one);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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
            ("1e400", None),
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
    fn scores_are_read_as_by_strtod() {
        for (text, want, bound) in [
            ("0x10", Some(16.0), Some(16.0)),
            ("-0x1.8p3", Some(-12.0), Some(-12.0)),
            ("0x", None, None),
            ("0x1p", None, None),
            ("0x.8", Some(0.5), Some(0.5)),
            ("0x1p-1074", Some(5e-324), Some(5e-324)),
            ("0x1p5000", None, Some(f64::INFINITY)),
            ("1e400", None, Some(f64::INFINITY)),
            ("-1e-400", None, Some(0.0)),
            ("0e-400", Some(0.0), Some(0.0)),
            ("", None, Some(0.0)),
            ("-", None, None),
            (" 1", None, None),
            ("1 ", None, None),
            ("nan", None, None),
            ("+INF", Some(f64::INFINITY), Some(f64::INFINITY)),
            ("5.", Some(5.0), Some(5.0)),
            (".", None, None),
            ("1_0", None, None),
            ("1e", None, None),
            ("\u{e9}", None, None),
        ] {
            assert_eq!(parse_score(text.as_bytes()), want, "{text:?}");
            assert_eq!(parse_score_bound(text.as_bytes()), bound, "{text:?}");
        }
    }

    #[test]
    fn scores_print_as_in_redis() {
        for (score, short, long) in [
            (0.1, "0.1", "0.10000000000000001"),
            (1e20, "1e+20", "1e+20"),
            (1e23, "1e+23", "9.9999999999999992e+22"),
            (1.5e300, "1.5e+300", "1.5000000000000001e+300"),
            (1e-7, "1e-7", "9.9999999999999995e-08"),
            (123456789012345680.0, "123456789012345680", "1.2345678901234568e+17"),
            (-3.5, "-3.5", "-3.5"),
            (100.0, "100", "100"),
            (-0.0, "-0", "-0"),
            (0.001, "0.001", "0.001"),
            (f64::NEG_INFINITY, "-inf", "-inf"),
        ] {
            assert_eq!((&*format_score(score), &*format_score_17(score)), (short, long));
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

    #[test]
    fn decimals_add_as_written() {
        for (left, right, want) in [
            ("0.1", "0.2", Some("0.3")),
            ("10.5", "0.1", Some("10.6")),
            ("10.6", "-5", Some("5.6")),
            ("1234", "0.1", Some("1234.1")),
            ("5.0e3", "2.0e2", Some("5200")),
            ("3.0", "1.000000000000000005", Some("4.00000000000000001")),
            ("-0.00000000000000001", "0", Some("-0.00000000000000001")),
            ("1e-18", "-1e-30", Some("0")),
            ("-1", "1", Some("0")),
            ("1e21", "0.5", Some("1000000000000000000000.5")),
            ("1e22", "1", Some("10000000000000000000000")),
            ("1e300", "1e300", Some(&format!("2{}", "0".repeat(300)))),
            ("1e308", "1e308", None),
            ("inf", "1", None),
            ("inf", "-inf", None),
            ("1", "x", None),
            ("0e999999", "0", Some("0")),
            (".5", "+.5", Some("1")),
        ] {
            assert_eq!(add_decimals(left.as_bytes(), right.as_bytes()).as_deref(), want, "{left} + {right}");
        }
    }
}
