//! The functions of expressions.

use super::value::{ExprValue, parse_number};
use super::{calendar, times};
use crate::error::{Kind, SearchError};
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Log,
    Log2,
    Exp,
    Sqrt,
    Abs,
    Ceil,
    Floor,
    Lower,
    Upper,
    Substr,
    Format,
    Split,
    MatchedTerms,
    ToNumber,
    ToStr,
    Exists,
    StartsWith,
    Contains,
    StrLen,
    TimeFmt,
    ParseTime,
    Hour,
    Minute,
    Day,
    Month,
    MonthOfYear,
    Year,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    GeoDistance,
    Case,
}

/// By how much a text that `format` makes may be longer than its longest argument.
const MADE_MAX: usize = 1 << 20;
/// The most parts of `split`.
const PARTS_MAX: usize = 1024;
/// The radius of the earth in metres, as Redis has it.
const EARTH_RADIUS: f64 = 6_372_797.560856;

/// Name, function, and least and most number of arguments. `format` checks its arguments itself.
const FUNCTIONS: [(&str, Function, usize, usize); 32] = [
    ("log", Function::Log, 1, 1),
    ("log2", Function::Log2, 1, 1),
    ("exp", Function::Exp, 1, 1),
    ("sqrt", Function::Sqrt, 1, 1),
    ("abs", Function::Abs, 1, 1),
    ("ceil", Function::Ceil, 1, 1),
    ("floor", Function::Floor, 1, 1),
    ("lower", Function::Lower, 1, 1),
    ("upper", Function::Upper, 1, 1),
    ("substr", Function::Substr, 3, 3),
    ("format", Function::Format, 1, usize::MAX),
    ("split", Function::Split, 1, 3),
    ("matched_terms", Function::MatchedTerms, 0, usize::MAX),
    ("to_number", Function::ToNumber, 1, 1),
    ("to_str", Function::ToStr, 1, 1),
    ("exists", Function::Exists, 1, 1),
    ("startswith", Function::StartsWith, 2, 2),
    ("contains", Function::Contains, 2, 2),
    ("strlen", Function::StrLen, 1, 1),
    ("timefmt", Function::TimeFmt, 1, 2),
    ("parsetime", Function::ParseTime, 2, 2),
    ("hour", Function::Hour, 1, 1),
    ("minute", Function::Minute, 1, 1),
    ("day", Function::Day, 1, 1),
    ("month", Function::Month, 1, 1),
    ("monthofyear", Function::MonthOfYear, 1, 1),
    ("year", Function::Year, 1, 1),
    ("dayofmonth", Function::DayOfMonth, 1, 1),
    ("dayofweek", Function::DayOfWeek, 1, 1),
    ("dayofyear", Function::DayOfYear, 1, 1),
    ("geodistance", Function::GeoDistance, 2, 4),
    ("case", Function::Case, 3, 3),
];

impl Function {
    /// Names are not case-sensitive.
    pub fn of_name(name: &[u8]) -> Option<Function> {
        let found = FUNCTIONS.iter().find(|(own, ..)| own.as_bytes().eq_ignore_ascii_case(name));
        found.map(|(_, function, ..)| *function)
    }

    /// The name in errors, which is not always the one in expressions.
    fn shown_name(self) -> &'static str {
        match self {
            Function::TimeFmt => "time",
            Function::Abs => "fabs",
            _ => FUNCTIONS.iter().find(|(_, function, ..)| *function == self).expect("all are listed").0,
        }
    }

    pub fn check_count(self, count: usize) -> Result<(), SearchError> {
        let (.., least, most) =
            *FUNCTIONS.iter().find(|(_, function, ..)| *function == self).expect("all are listed");
        if (least..=most).contains(&count) {
            return Ok(());
        }
        use Function::*;
        Err(match self {
            Format => Kind::FormatWithoutArguments.error(),
            Split | Log | Log2 | Exp | Sqrt | Abs | Ceil | Floor => {
                Kind::FunctionCount.with([self.shown_name().into()])
            }
            _ => Kind::FunctionArguments.with([self.shown_name().into()]),
        })
    }

    /// Calls the function with a valid number of arguments. The arguments may be taken.
    pub fn call<'r>(self, values: &mut [ExprValue<'r>]) -> Result<ExprValue<'r>, SearchError> {
        use Function::*;
        Ok(match self {
            Log => of_number(&values[0], |number| if number < 0.0 { -f64::NAN } else { number.ln() }),
            Log2 => of_number(&values[0], |number| if number < 0.0 { -f64::NAN } else { number.log2() }),
            Exp => of_number(&values[0], f64::exp),
            Sqrt => of_number(&values[0], |number| if number < 0.0 { -f64::NAN } else { number.sqrt() }),
            Abs => of_number(&values[0], f64::abs),
            Ceil => of_number(&values[0], f64::ceil),
            Floor => of_number(&values[0], f64::floor),
            Lower => mapped(&values[0], |byte| byte.to_ascii_lowercase()),
            Upper => mapped(&values[0], |byte| byte.to_ascii_uppercase()),
            Substr => substring(values)?,
            Format => format(values)?,
            Split => split(values)?,
            MatchedTerms => ExprValue::Null,
            ToNumber => match values[0].number() {
                Some(number) => ExprValue::Number(number),
                None => return Err(Kind::ToNumber.of(values[0].text().unwrap_or(b"(null)"))),
            },
            ToStr => ExprValue::Text(Cow::Owned(values[0].to_text().into_owned())),
            Exists => ExprValue::Number(1.0),
            StartsWith => {
                let (whole, start) = (self.string(values, 0)?, self.string(values, 1)?);
                ExprValue::of_bool(whole.starts_with(start))
            }
            Contains => {
                let count = occurrences(self.string(values, 0)?, self.string(values, 1)?);
                ExprValue::Number(count as f64)
            }
            StrLen => ExprValue::Number(self.string(values, 0)?.len() as f64),
            TimeFmt => format_time(values)?,
            ParseTime => {
                let (time, format) = (self.string(values, 0)?, self.string(values, 1)?);
                or_null(times::parse_time(time, format).map(|seconds| seconds as f64))
            }
            Hour | Minute | Day | Month | MonthOfYear | Year | DayOfMonth | DayOfWeek | DayOfYear => or_null(
                values[0].number().filter(|seconds| *seconds >= 0.0).and_then(|time| self.of_time(time)),
            ),
            GeoDistance => geo_distance(values)?,
            Case => unreachable!("compiled to jumps"),
        })
    }

    /// A text argument.
    fn string<'v>(self, values: &'v [ExprValue<'_>], place: usize) -> Result<&'v [u8], SearchError> {
        values[place].text().ok_or_else(|| {
            let [kind, place] = [values[place].type_number().to_string(), place.to_string()];
            Kind::FunctionString.with([kind.into(), place.into(), self.shown_name().into()])
        })
    }

    fn wrong_type(self, values: &[ExprValue<'_>], place: usize, wanted: &str) -> SearchError {
        let [kind, place] = [values[place].type_number().to_string(), place.to_string()];
        Kind::FunctionType.with([kind.into(), place.into(), self.shown_name().into(), wanted.into()])
    }

    /// A part of a time, in seconds since 1970. `None` if its year is out of range.
    fn of_time(self, time: f64) -> Option<f64> {
        let seconds = time as i64;
        let date = calendar::date_of(seconds)?;
        Some(match self {
            Function::Hour => (seconds - seconds.rem_euclid(3600)) as f64,
            Function::Minute => (time - time % 60.0).floor(),
            Function::Day => (seconds - seconds.rem_euclid(86400)) as f64,
            Function::Month => {
                (calendar::days_before(date.year, date.month.into(), 1) * calendar::DAY_SECONDS) as f64
            }
            Function::MonthOfYear => f64::from(date.month),
            Function::Year => date.year as f64,
            Function::DayOfMonth => f64::from(date.day),
            Function::DayOfWeek => f64::from(date.weekday),
            _ => f64::from(date.yearday),
        })
    }
}

fn or_null(number: Option<f64>) -> ExprValue<'static> {
    number.map_or(ExprValue::Null, ExprValue::Number)
}

/// The function of a number; NaN of anything else.
fn of_number(value: &ExprValue<'_>, function: impl Fn(f64) -> f64) -> ExprValue<'static> {
    ExprValue::Number(value.number().map_or(f64::NAN, function))
}

fn mapped(value: &ExprValue<'_>, map: impl Fn(&u8) -> u8) -> ExprValue<'static> {
    let text = value.text().map(|text| text.iter().map(map).collect());
    text.map_or(ExprValue::Null, |text| ExprValue::Text(Cow::Owned(text)))
}

/// The bytes from an offset on, or from the end if it is negative. A negative length leaves
/// that number of bytes at the end out.
fn substring<'r>(values: &mut [ExprValue<'r>]) -> Result<ExprValue<'r>, SearchError> {
    let whole = |place: usize| match values[place].seen() {
        // Beyond 32 bits, C's conversion gives the smallest integer.
        ExprValue::Number(number) if number.abs() < 2_147_483_648.0 => Ok(*number as i64),
        ExprValue::Number(_) => Ok(i64::from(i32::MIN)),
        _ => Err(Function::Substr.wrong_type(values, place, "RSValue_Number")),
    };
    let (offset, length) = (whole(1)?, whole(2)?);
    let Some(text) = values[0].text() else { return Err(Kind::SubstrString.error()) };
    let size = text.len() as i64;
    let start = if offset < 0 { size + offset } else { offset };
    // An offset before the start counts as one after the end.
    let start = if (0..size).contains(&start) { start } else { size };
    let length = if length < 0 { (size - start + length).max(0) } else { length.min(size - start) };
    Ok(ExprValue::Text(Cow::Owned(text[start as usize..(start + length) as usize].to_vec())))
}

/// How often the part occurs, overlapping ones included: Knuth, Morris and Pratt, whose time is linear.
fn occurrences(whole: &[u8], part: &[u8]) -> usize {
    if part.is_empty() {
        return whole.len() + 1;
    }
    // For each start of the part, the length of its longest proper end that is a start too.
    let mut shorter = vec![0; part.len()];
    let mut matched = 0;
    for place in 1..part.len() {
        while matched > 0 && part[place] != part[matched] {
            matched = shorter[matched - 1];
        }
        matched += usize::from(part[place] == part[matched]);
        shorter[place] = matched;
    }
    let (mut count, mut matched) = (0, 0);
    for byte in whole {
        while matched > 0 && (matched == part.len() || part[matched] != *byte) {
            matched = shorter[matched - 1];
        }
        matched += usize::from(part[matched] == *byte);
        count += usize::from(matched == part.len());
    }
    count
}

fn format<'r>(values: &mut [ExprValue<'r>]) -> Result<ExprValue<'r>, SearchError> {
    let format = Function::Format.string(values, 0)?;
    let longest = values.iter().filter_map(ExprValue::text).map(<[u8]>::len).max().unwrap_or_default();
    let most = MADE_MAX + longest;
    let mut arguments = values[1..].iter();
    let mut out = Vec::with_capacity(format.len());
    let mut bytes = format.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            None => return Err(Kind::FormatString.error()),
            Some(b'%') => out.push(b'%'),
            Some(specifier) => {
                let argument = arguments.next().ok_or(Kind::FormatShort.error())?;
                if *specifier != b's' {
                    return Err(Kind::FormatSpecifier.error());
                }
                match argument.seen() {
                    ExprValue::Null => out.extend_from_slice(b"(null)"),
                    argument => out.extend_from_slice(&argument.to_text()),
                }
            }
        }
        if out.len() > most {
            return Err(Kind::FormatLong.with([MADE_MAX.to_string().into()]));
        }
    }
    Ok(ExprValue::Text(Cow::Owned(out)))
}

/// The parts between separators (one of `,` by default), without the bytes of the last argument (a space) at
/// both ends, and without empty ones.
fn split<'r>(values: &mut [ExprValue<'r>]) -> Result<ExprValue<'r>, SearchError> {
    let text = Function::Split.string(values, 0)?;
    let separators = if values.len() > 1 { Function::Split.string(values, 1)? } else { b"," };
    let trimmed = if values.len() > 2 { Function::Split.string(values, 2)? } else { b" " };
    let [separators, trimmed] = [separators, trimmed].map(|bytes| {
        let mut is_in = [false; 256];
        bytes.iter().for_each(|byte| is_in[usize::from(*byte)] = true);
        is_in
    });
    let parts = text.split(|byte| separators[usize::from(*byte)]).filter_map(|part| {
        let start = part.iter().position(|byte| !trimmed[usize::from(*byte)])?;
        let end = part.iter().rposition(|byte| !trimmed[usize::from(*byte)])?;
        Some(ExprValue::Text(Cow::Owned(part[start..=end].to_vec())))
    });
    Ok(ExprValue::List(parts.take(PARTS_MAX).collect()))
}

fn format_time<'r>(values: &mut [ExprValue<'r>]) -> Result<ExprValue<'r>, SearchError> {
    let format = match values.get(1) {
        None => &b"%FT%TZ"[..],
        Some(value) => {
            value.text().ok_or_else(|| Function::TimeFmt.wrong_type(values, 1, "RSValue_String"))?
        }
    };
    let text = values[0].number().and_then(|seconds| times::format_time(seconds, format));
    Ok(text.map_or(ExprValue::Null, |text| ExprValue::Text(Cow::Owned(text))))
}

/// The distance in metres of two points, each of which is one text or two numbers.
fn geo_distance<'r>(values: &mut [ExprValue<'r>]) -> Result<ExprValue<'r>, SearchError> {
    let mut rest = &*values;
    let mut points = [(0.0, 0.0); 2];
    for point in &mut points {
        let found = match rest {
            [longitude, after @ ..] if longitude.number().is_some() => {
                rest = after.get(1..).unwrap_or_default();
                longitude.number().zip(after.first().and_then(ExprValue::number))
            }
            [place, after @ ..] => {
                rest = after;
                place.text().map(point_of).transpose()?
            }
            [] => None,
        };
        let Some(found) = found else { return Ok(ExprValue::Number(f64::NAN)) };
        *point = found;
    }
    let metres = distance(points[0], points[1]);
    Ok(ExprValue::Number((metres * 100.0).round() / 100.0))
}

/// Reads longitude and latitude, separated by a comma or a space.
fn point_of(text: &[u8]) -> Result<(f64, f64), SearchError> {
    const LENGTH_MAX: usize = 128;
    if text.len() > LENGTH_MAX {
        return Err(Kind::GeoLong.error());
    }
    let separator = text.iter().position(|byte| matches!(byte, b' ' | b',')).ok_or(Kind::BadGeo.error())?;
    let read = |digits: &[u8]| parse_number(digits).ok_or(Kind::BadGeo.error());
    Ok((read(&text[..separator])?, read(&text[separator + 1..])?))
}

/// Haversine distance.
fn distance((longitude, latitude): (f64, f64), (other_longitude, other_latitude): (f64, f64)) -> f64 {
    let (from, to) = (latitude.to_radians(), other_latitude.to_radians());
    let north = ((to - from) / 2.0).sin();
    let east = ((other_longitude.to_radians() - longitude.to_radians()) / 2.0).sin();
    2.0 * EARTH_RADIUS * (north * north + from.cos() * to.cos() * east * east).sqrt().asin()
}
