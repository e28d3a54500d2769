//! Texts of times, as C's `strftime` and `strptime` write and read them in the C locale and UTC.

use super::calendar::{DAY_SECONDS, Date, date_of, days_before, iso_week};
use super::lexer::is_white_space;

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// The most bytes of a formatted time.
const TEXT_MAX: usize = 1023;
/// Formats in formats, as `%c` has, are not deeper.
const NESTED_MAX: u32 = 3;

/// Formats a time in seconds since 1970. `None` if its year is out of range, or the text is empty or too
/// long.
pub fn format_time(seconds: f64, format: &[u8]) -> Option<Vec<u8>> {
    let in_range = (-9.0e18..9.0e18).contains(&seconds);
    let seconds = if in_range { seconds as i64 } else { return None };
    let mut out = Vec::new();
    write_time(&date_of(seconds)?, seconds, format, &mut out)?;
    (!out.is_empty()).then_some(out)
}

/// How a conversion is written: glibc's flags and width.
#[derive(Clone, Copy, Default)]
struct Style {
    padding: Option<u8>,
    upper: bool,
    swapped: bool,
    width: usize,
}

fn write_time(date: &Date, seconds: i64, format: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = format;
    while let [byte, after @ ..] = rest {
        if *byte != b'%' {
            out.push(*byte);
            rest = after;
        } else {
            let (style, conversion, after) = conversion_of(after);
            let text = conversion.and_then(|conversion| converted(date, seconds, conversion, style));
            match text {
                Some(text) => pad(&text, style, conversion, out),
                // What is unknown is written as it is.
                None => out.extend_from_slice(&rest[..rest.len() - after.len()]),
            }
            rest = after;
        }
        if out.len() > TEXT_MAX {
            return None;
        }
    }
    Some(())
}

/// The flags, the width and the letter after a `%`, and what follows.
fn conversion_of(mut rest: &[u8]) -> (Style, Option<u8>, &[u8]) {
    let mut style = Style::default();
    while let [flag @ (b'_' | b'-' | b'0' | b'^' | b'#'), after @ ..] = rest {
        match flag {
            b'^' => style.upper = true,
            b'#' => style.swapped = true,
            flag => style.padding = Some(*flag),
        }
        rest = after;
    }
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        // A wider text is too long anyway.
        style.width = (style.width * 10 + usize::from(digit - b'0')).min(2 * TEXT_MAX);
        rest = after;
    }
    if let [b'E' | b'O', letter, after @ ..] = rest
        && letter.is_ascii_alphabetic()
    {
        return (style, Some(*letter), after);
    }
    match rest {
        [letter, after @ ..] => (style, Some(*letter), after),
        [] => (style, None, rest),
    }
}

enum Converted {
    /// A number, its least width and its padding.
    Number(i64, usize, u8),
    Text(String),
}

fn converted(date: &Date, seconds: i64, conversion: u8, style: Style) -> Option<Converted> {
    let zeros = |number: i64, width| Some(Converted::Number(number, width, b'0'));
    let spaces = |number: u32| Some(Converted::Number(i64::from(number), 2, b' '));
    let text = |text: &str| Some(Converted::Text(text.to_owned()));
    let nested = |format: &[u8]| {
        let mut out = Vec::new();
        write_time(date, seconds, format, &mut out)?;
        Some(Converted::Text(String::from_utf8(out).expect("formats of this file are ASCII")))
    };
    let twelve = (date.hour + 11) % 12 + 1;
    let noon = if date.hour < 12 { "AM" } else { "PM" };
    match conversion {
        b'a' => text(&WEEKDAYS[date.weekday as usize][..3]),
        b'A' => text(WEEKDAYS[date.weekday as usize]),
        b'b' | b'h' => text(&MONTHS[date.month as usize][..3]),
        b'B' => text(MONTHS[date.month as usize]),
        b'c' => nested(b"%a %b %e %H:%M:%S %Y"),
        b'C' => zeros(date.year.div_euclid(100), 2),
        b'd' => zeros(date.day.into(), 2),
        b'D' | b'x' => nested(b"%m/%d/%y"),
        b'e' => spaces(date.day),
        b'F' => nested(b"%Y-%m-%d"),
        b'g' => zeros(iso_week(date).0.rem_euclid(100), 2),
        b'G' => zeros(iso_week(date).0, 1),
        b'H' => zeros(date.hour.into(), 2),
        b'I' => zeros(twelve.into(), 2),
        b'j' => zeros(i64::from(date.yearday) + 1, 3),
        b'k' => spaces(date.hour),
        b'l' => spaces(twelve),
        b'm' => zeros(i64::from(date.month) + 1, 2),
        b'M' => zeros(date.minute.into(), 2),
        b'n' => text("\n"),
        b'p' if style.swapped => text(&noon.to_ascii_lowercase()),
        b'p' => text(noon),
        b'P' => text(&noon.to_ascii_lowercase()),
        b'r' => nested(b"%I:%M:%S %p"),
        b'R' => nested(b"%H:%M"),
        b's' => zeros(seconds, 1),
        b'S' => zeros(date.second.into(), 2),
        b't' => text("\t"),
        b'T' | b'X' => nested(b"%H:%M:%S"),
        b'u' => zeros(i64::from((date.weekday + 6) % 7) + 1, 1),
        b'U' => zeros(i64::from((date.yearday + 7 - date.weekday) / 7), 2),
        b'V' => zeros(iso_week(date).1.into(), 2),
        b'w' => zeros(date.weekday.into(), 1),
        b'W' => zeros(i64::from((date.yearday + 7 - (date.weekday + 6) % 7) / 7), 2),
        b'y' => zeros(date.year.rem_euclid(100), 2),
        b'Y' => zeros(date.year, 1),
        b'z' => text("+0000"),
        b'Z' if style.swapped => text("gmt"),
        b'Z' => text("GMT"),
        b'%' => text("%"),
        _ => None,
    }
}

fn pad(converted: &Converted, style: Style, conversion: Option<u8>, out: &mut Vec<u8>) {
    match converted {
        Converted::Number(number, width, padding) => {
            let padding = style.padding.unwrap_or(*padding);
            let width = if padding == b'-' { style.width } else { style.width.max(*width) };
            let digits = number.unsigned_abs().to_string();
            let sign = if *number < 0 { "-" } else { "" };
            let missing = width.saturating_sub(digits.len() + sign.len());
            match padding {
                b'_' | b' ' => {
                    out.resize(out.len() + missing, b' ');
                    out.extend_from_slice(sign.as_bytes());
                }
                _ => {
                    out.extend_from_slice(sign.as_bytes());
                    out.resize(out.len() + missing, b'0');
                }
            }
            out.extend_from_slice(digits.as_bytes());
        }
        Converted::Text(text) => {
            let padding = if style.padding == Some(b'0') { b'0' } else { b' ' };
            let missing = style.width.saturating_sub(text.len());
            out.resize(out.len() + missing, padding);
            let swaps = style.swapped && matches!(conversion, Some(b'a' | b'A' | b'b' | b'B' | b'h'));
            let upper = style.upper || swaps;
            out.extend(text.bytes().map(|byte| if upper { byte.to_ascii_uppercase() } else { byte }));
        }
    }
}

/// What a text said about a time.
#[derive(Default)]
struct Parsed {
    /// Since 1900.
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    weekday: Option<i64>,
    yearday: Option<i64>,
    has_month: bool,
    has_day: bool,
    /// The hour is one of twelve.
    of_twelve: bool,
    afternoon: bool,
    century: Option<i64>,
    /// The year is only the last two digits.
    short_year: bool,
    /// The week of the year, and the weekday that it begins with.
    week: Option<(i64, i64)>,
    whole: Option<i64>,
}

/// Reads a time, and returns it in seconds since 1970. What the format does not name is 0, so a year alone is
/// the last day of the year before. `None` if the text does not have the format; more may follow.
pub fn parse_time(text: &[u8], format: &[u8]) -> Option<i64> {
    let mut parsed = Parsed::default();
    read_time(text, format, &mut parsed, NESTED_MAX)?;
    Some(parsed.seconds())
}

impl Parsed {
    fn seconds(mut self) -> i64 {
        if let Some(whole) = self.whole {
            return whole;
        }
        if let Some(century) = self.century {
            let of_century = if self.short_year { self.year.rem_euclid(100) } else { 0 };
            self.year = of_century + (century - 19) * 100;
        }
        let full_year = self.year + 1900;
        if let (Some((week, first)), Some(weekday)) = (self.week, self.weekday)
            && !(self.has_month && self.has_day)
        {
            let january = (days_before(full_year, 0, 1) + 4).rem_euclid(7);
            let start = (first - january).rem_euclid(7) + (week - 1) * 7;
            self.set_yearday(full_year, start + (weekday - first).rem_euclid(7));
        } else if let Some(yearday) = self.yearday {
            self.set_yearday(full_year, yearday);
        }
        if self.of_twelve {
            self.hour = self.hour % 12 + if self.afternoon { 12 } else { 0 };
        }
        let days = days_before(full_year, self.month, self.day);
        days * DAY_SECONDS + self.hour * 3600 + self.minute * 60 + self.second
    }

    /// Sets month and day, unless they were read.
    fn set_yearday(&mut self, year: i64, yearday: i64) {
        if self.has_month && self.has_day {
            return;
        }
        let first = days_before(year, 0, 1);
        let date = date_of((first + yearday) * DAY_SECONDS).expect("years have four digits");
        if !self.has_month {
            self.month = i64::from(date.month) + 12 * (date.year - year);
        }
        if !self.has_day {
            self.day = i64::from(date.day);
        }
    }
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| is_white_space(**byte)).count();
    &text[spaces..]
}

/// Reads a number of at most `digits_max` digits, after spaces.
fn number(text: &[u8], (least, most): (i64, i64), digits_max: usize) -> Option<(i64, &[u8])> {
    let text = skip_spaces(text);
    let mut value = 0;
    let mut length = 0;
    while length < digits_max && text.get(length).is_some_and(u8::is_ascii_digit) {
        value = value * 10 + i64::from(text[length] - b'0');
        length += 1;
    }
    (length > 0 && (least..=most).contains(&value)).then(|| (value, &text[length..]))
}

/// Reads one of the names, or its first three letters.
fn name<'t>(text: &'t [u8], names: &[&str]) -> Option<(i64, &'t [u8])> {
    let starts =
        |name: &str| text.len() >= name.len() && text[..name.len()].eq_ignore_ascii_case(name.as_bytes());
    names.iter().zip(0..).find_map(|(full, place)| {
        let length = [full.len(), 3].into_iter().find(|&length| starts(&full[..length]))?;
        Some((place, &text[length..]))
    })
}

fn read_time<'t>(mut text: &'t [u8], format: &[u8], parsed: &mut Parsed, nested: u32) -> Option<&'t [u8]> {
    let mut rest = format;
    while let [byte, after @ ..] = rest {
        rest = after;
        if is_white_space(*byte) {
            text = skip_spaces(text);
            continue;
        }
        if *byte != b'%' {
            text = text.strip_prefix(&[*byte])?;
            continue;
        }
        while let [b'_' | b'-' | b'0' | b'^' | b'#', after @ ..] = rest {
            rest = after;
        }
        if let [b'E' | b'O', after @ ..] = rest {
            rest = after;
        }
        let [conversion, after @ ..] = rest else { return None };
        rest = after;
        let inner = match conversion {
            b'c' => &b"%a %b %e %H:%M:%S %Y"[..],
            b'D' | b'x' => b"%m/%d/%y",
            b'F' => b"%Y-%m-%d",
            b'r' => b"%I:%M:%S %p",
            b'R' => b"%H:%M",
            b'T' | b'X' => b"%H:%M:%S",
            conversion => {
                text = parsed.read(*conversion, text)?;
                continue;
            }
        };
        text = read_time(text, inner, parsed, nested.checked_sub(1)?)?;
    }
    Some(text)
}

impl Parsed {
    fn read<'t>(&mut self, conversion: u8, text: &'t [u8]) -> Option<&'t [u8]> {
        let rest;
        match conversion {
            b'a' | b'A' => {
                let (weekday, after) = name(text, &WEEKDAYS)?;
                (self.weekday, rest) = (Some(weekday), after);
            }
            b'b' | b'B' | b'h' => {
                (self.month, rest) = name(text, &MONTHS)?;
                self.has_month = true;
            }
            b'C' => {
                let (century, after) = number(text, (0, 99), 2)?;
                (self.century, rest) = (Some(century), after);
            }
            b'd' | b'e' => {
                (self.day, rest) = number(text, (1, 31), 2)?;
                self.has_day = true;
            }
            b'H' | b'k' => {
                (self.hour, rest) = number(text, (0, 23), 2)?;
                self.of_twelve = false;
            }
            b'I' | b'l' => {
                (self.hour, rest) = number(text, (1, 12), 2)?;
                self.of_twelve = true;
            }
            b'j' => {
                let (day, after) = number(text, (1, 366), 3)?;
                (self.yearday, rest) = (Some(day - 1), after);
            }
            b'm' => {
                let (month, after) = number(text, (1, 12), 2)?;
                (self.month, self.has_month, rest) = (month - 1, true, after);
            }
            b'M' => (self.minute, rest) = number(text, (0, 59), 2)?,
            b'S' => (self.second, rest) = number(text, (0, 61), 2)?,
            b'p' => {
                let is = |noon: &[u8]| text.len() >= 2 && text[..2].eq_ignore_ascii_case(noon);
                self.afternoon = is(b"PM");
                rest = (self.afternoon || is(b"AM")).then(|| &text[2..])?;
            }
            b's' => {
                let (seconds, after) = seconds(text)?;
                (self.whole, rest) = (Some(seconds), after);
            }
            b'u' | b'w' => {
                let range = if conversion == b'u' { (1, 7) } else { (0, 6) };
                let (weekday, after) = number(text, range, 1)?;
                (self.weekday, rest) = (Some(weekday % 7), after);
            }
            b'U' | b'W' => {
                let (week, after) = number(text, (0, 53), 2)?;
                (self.week, rest) = (Some((week, i64::from(conversion == b'W'))), after);
            }
            b'y' => {
                let (year, after) = number(text, (0, 99), 2)?;
                (self.year, rest) = (if year >= 69 { year } else { year + 100 }, after);
                self.short_year = true;
            }
            b'Y' => {
                let (year, after) = number(text, (0, 9999), 4)?;
                (self.year, rest) = (year - 1900, after);
                (self.century, self.short_year) = (None, false);
            }
            _ => rest = without_value(conversion, text)?,
        }
        Some(rest)
    }
}

/// Reads a conversion that says nothing about the time in UTC.
fn without_value(conversion: u8, text: &[u8]) -> Option<&[u8]> {
    Some(match conversion {
        b'%' => text.strip_prefix(b"%")?,
        b'n' | b't' => skip_spaces(text),
        b'g' => number(text, (0, 99), 2)?.1,
        b'G' => number(text, (0, 9999), 4)?.1,
        b'V' => number(text, (0, 53), 2)?.1,
        b'Z' => {
            let text = skip_spaces(text);
            &text[text.iter().take_while(|byte| !is_white_space(**byte)).count()..]
        }
        b'z' => {
            let text = skip_spaces(text);
            if let Some(rest) = text.strip_prefix(b"Z") {
                return Some(rest);
            }
            let [b'+' | b'-', digits @ ..] = text else { return None };
            let two = |digits: &[u8]| digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_digit);
            let minutes = digits.get(2..).filter(|_| two(digits))?;
            let minutes = minutes.strip_prefix(b":").unwrap_or(minutes);
            if two(minutes) { &minutes[2..] } else { minutes }
        }
        _ => return None,
    })
}

/// Seconds since 1970, with a sign.
fn seconds(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&text[..digits]).expect("ASCII").parse().ok()?;
    Some((number, &text[digits..]))
}
