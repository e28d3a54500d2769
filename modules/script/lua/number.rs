//! Numbers of Lua as words of commands.

use std::io::Write;

/// The shortest text that reads back as the same number: an integer without a point where it is one, an
/// exponent only where many zeros would be needed.
pub fn write_number(number: f64, text: &mut Vec<u8>) {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.trunc() == number && number.abs() <= EXACT_MAX {
        _ = write!(text, "{}", number as i64);
        return;
    }
    if number.is_nan() {
        return text.extend_from_slice(if number.is_sign_negative() { b"-nan" } else { b"nan" });
    }
    if number.is_infinite() {
        return text.extend_from_slice(if number < 0.0 { b"-inf" } else { b"inf" });
    }
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').expect("it has an exponent");
    let digits: String = mantissa.chars().filter(|digit| *digit != '.').collect();
    let exponent: i32 = exponent.parse().expect("it is a number");
    if number < 0.0 {
        text.push(b'-');
    }
    write_digits(digits.as_bytes(), exponent, text);
}

/// `exponent` is that of the first digit.
fn write_digits(digits: &[u8], exponent: i32, text: &mut Vec<u8>) {
    let count = digits.len() as i32;
    // The power of ten of the last digit.
    let last = exponent - count + 1;
    if last >= 0 && exponent.abs() < count + 7 {
        text.extend_from_slice(digits);
        text.extend(std::iter::repeat_n(b'0', last as usize));
    } else if last < 0 && (last > -7 || exponent.abs() < 4) {
        if exponent < 0 {
            text.extend_from_slice(b"0.");
            text.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
            text.extend_from_slice(digits);
        } else {
            let (whole, part) = digits.split_at((exponent + 1) as usize);
            text.extend_from_slice(whole);
            text.push(b'.');
            text.extend_from_slice(part);
        }
    } else {
        text.push(digits[0]);
        if count > 1 {
            text.push(b'.');
            text.extend_from_slice(&digits[1..]);
        }
        _ = write!(text, "e{}{}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
}

/// With this many significant digits, without zeros at the end: C's `%.*g`.
pub fn write_precise(number: f64, precision: usize, text: &mut Vec<u8>) {
    if !number.is_finite() {
        let name: &[u8] = if number.is_nan() { b"nan" } else { b"inf" };
        if number.is_sign_negative() {
            text.push(b'-');
        }
        return text.extend_from_slice(name);
    }
    let precision = precision.max(1);
    let scientific = format!("{:.*e}", precision - 1, number);
    let (mantissa, exponent) = scientific.split_once('e').expect("it has an exponent");
    let exponent: i32 = exponent.parse().expect("it is a number");
    let without_zeros = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').len(),
        false => digits.len(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        text.extend_from_slice(&mantissa.as_bytes()[..without_zeros(mantissa)]);
        let sign = if exponent < 0 { '-' } else { '+' };
        _ = write!(text, "e{sign}{:02}", exponent.abs());
    } else {
        let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
        let fixed = format!("{number:.decimals$}");
        text.extend_from_slice(&fixed.as_bytes()[..without_zeros(&fixed)]);
    }
}

#[cfg(test)]
mod tests {
    use super::{write_number, write_precise};

    #[test]
    fn precise_numbers_are_as_c_writes_them() {
        for (number, precision, wanted) in [
            (3.0, 14, "3"),
            (0.1, 14, "0.1"),
            (std::f64::consts::PI, 14, "3.1415926535898"),
            (1e15, 14, "1e+15"),
            (123_456_789_012_345.0, 14, "1.2345678901234e+14"),
            (1e-5, 14, "1e-05"),
            (1e-4, 14, "0.0001"),
            (100.0, 1, "1e+02"),
            (f64::NEG_INFINITY, 14, "-inf"),
        ] {
            let mut text = Vec::new();
            write_precise(number, precision, &mut text);
            assert_eq!(String::from_utf8_lossy(&text), wanted);
        }
    }

    #[test]
    fn numbers_are_written_as_short_as_they_can() {
        for (number, wanted) in [
            (1.0, "1"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (std::f64::consts::PI, "3.141592653589793"),
            (1e9, "1000000000"),
            (1e15, "1000000000000000"),
            (1e20, "1e+20"),
            (1.5e300, "1.5e+300"),
            (1e-7, "1e-7"),
            (0.001, "0.001"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "inf"),
        ] {
            let mut text = Vec::new();
            write_number(number, &mut text);
            assert_eq!(String::from_utf8_lossy(&text), wanted);
        }
    }
}
