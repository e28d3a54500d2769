//! Formats numbers as C's `%.12g`, which RediSearch uses for distances and statistics, and `%.17g`, which it
//! uses for sort keys. Does not allocate, because a reply has one number per row.

use std::fmt::{self, Write};
use std::ops::Deref;

/// The longest text: a sign, seventeen digits, a point, and an exponent or four zeros.
const BYTES_MAX: usize = 28;

/// A formatted number.
pub struct NumberText {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

/// Twelve significant digits without trailing zeros; very large and very small numbers with an exponent.
pub fn format_number(number: f64) -> NumberText {
    with_digits(number, 12)
}

/// The same with seventeen digits, which identify every double exactly.
pub fn format_exactly(number: f64) -> NumberText {
    with_digits(number, 17)
}

fn with_digits(number: f64, digits: i32) -> NumberText {
    let mut text = NumberText::default();
    text.format(number, digits).expect("every number fits");
    text
}

impl Default for NumberText {
    fn default() -> NumberText {
        NumberText { bytes: [0; BYTES_MAX], length: 0 }
    }
}

impl NumberText {
    fn format(&mut self, number: f64, digits: i32) -> fmt::Result {
        if number == 0.0 {
            return self.write_str(if number.is_sign_negative() { "-0" } else { "0" });
        }
        if !number.is_finite() {
            let infinity = if number > 0.0 { "inf" } else { "-inf" };
            return self.write_str(if number.is_nan() { "nan" } else { infinity });
        }
        write!(self, "{number:.*e}", (digits - 1) as usize)?;
        let (mantissa, exponent) = self.split_once('e').expect("written with an exponent");
        let mantissa_length = mantissa.len();
        let exponent: i32 = exponent.parse().expect("written as a number");
        if !(-4..digits).contains(&exponent) {
            self.length = mantissa_length;
            self.cut_zeros();
            let sign = if exponent < 0 { '-' } else { '+' };
            return write!(self, "e{sign}{:02}", exponent.abs());
        }
        self.length = 0;
        write!(self, "{number:.*}", (digits - 1 - exponent) as usize)?;
        self.cut_zeros();
        Ok(())
    }

    fn cut_zeros(&mut self) {
        if self.contains('.') {
            self.length = self.trim_end_matches('0').trim_end_matches('.').len();
        }
    }
}

impl Write for NumberText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.length + part.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(part.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl Deref for NumberText {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("written as text")
    }
}

#[cfg(test)]
mod tests {
    use super::{format_exactly, format_number};

    #[test]
    fn numbers_print_as_c_prints_them() {
        for (number, text) in [
            (1.6875, "1.6875"),
            (f64::from(0.1f32), "0.10000000149"),
            (0.0, "0"),
            (-0.0, "-0"),
            (123456789012.0, "123456789012"),
            (1234567890123.0, "1.23456789012e+12"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (1e300, "1e+300"),
            (0.9999999999999, "1"),
            (99999999999.99, "100000000000"),
            (999999999999.9, "1e+12"),
            (-0.000123456789012, "-0.000123456789012"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "nan"),
            (f64::MIN, "-1.79769313486e+308"),
            (-f64::MIN_POSITIVE, "-2.22507385851e-308"),
            (-5e-324, "-4.94065645841e-324"),
        ] {
            assert_eq!(&*format_number(number), text);
        }
        for (number, text) in [
            (0.1, "0.10000000000000001"),
            (-2.5, "-2.5"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1e-7, "9.9999999999999995e-08"),
            (-0.000_123_456_789_012, "-0.000123456789012"),
            (f64::MIN, "-1.7976931348623157e+308"),
            (-f64::MIN_POSITIVE, "-2.2250738585072014e-308"),
        ] {
            assert_eq!(&*format_exactly(number), text);
        }
    }
}
