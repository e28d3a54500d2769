//! The forms that values have as text. Error texts are Redis's: CONFIG SET replies with them.

use crate::config::client_limits::{ClientMemory, OutputLimits};
use crate::config::event_classes::EventClasses;
use std::path::{Path, PathBuf};

/// The properties of a parameter's values that do not depend on a value.
pub trait ValueShape: Sync {
    /// The placeholder of the value in `--help` and in the documentation.
    fn placeholder(&self) -> &'static str;

    /// The allowed values, for the documentation; empty if all are.
    fn bounds(&self) -> String {
        String::new()
    }

    /// True if several words of a line form one value, as in `bind 127.0.0.1 ::1`.
    fn is_list(&self) -> bool {
        false
    }
}

/// Reads and shows values of type `T`.
pub trait Form<T>: ValueShape {
    fn show(&self, value: &T) -> String;

    /// Reads a value. `before` is the value that it replaces: some forms name only a part of it.
    fn read(&self, text: &str, before: &T) -> Result<T, String>;
}

/// A whole number between two bounds, both included.
pub struct Number {
    min: i64,
    max: i64,
}

pub const fn number(min: i64, max: i64) -> Number {
    Number { min, max }
}

impl ValueShape for Number {
    fn placeholder(&self) -> &'static str {
        "NUMBER"
    }

    fn bounds(&self) -> String {
        match self.max {
            i64::MAX => format!("at least {}", self.min),
            max => format!("{} to {max}", self.min),
        }
    }
}

impl<T: Copy + TryFrom<i64> + TryInto<i64>> Form<T> for Number {
    fn show(&self, value: &T) -> String {
        let number: Result<i64, _> = (*value).try_into();
        number.unwrap_or(i64::MAX).to_string()
    }

    fn read(&self, text: &str, _: &T) -> Result<T, String> {
        within(integer(text)?, self.min, self.max)
    }
}

/// As Redis reads integers: no plus sign, no leading zeros.
fn integer(text: &str) -> Result<i64, String> {
    let number = text.parse().ok().filter(|number: &i64| number.to_string() == text);
    number.ok_or_else(|| "argument couldn't be parsed into an integer".to_owned())
}

/// A whole number that is not negative. As in Redis, one beyond a bound is taken as that bound; CONFIG GET
/// shows it.
pub struct Clamped {
    min: i64,
    max: i64,
}

pub const fn clamped(min: i64, max: i64) -> Clamped {
    Clamped { min, max }
}

impl ValueShape for Clamped {
    fn placeholder(&self) -> &'static str {
        "NUMBER"
    }

    fn bounds(&self) -> String {
        format!("{} to {}; beyond, the nearest of these", self.min, self.max)
    }
}

impl Form<u32> for Clamped {
    fn show(&self, value: &u32) -> String {
        value.to_string()
    }

    fn read(&self, text: &str, _: &u32) -> Result<u32, String> {
        let number: i64 = within(integer(text)?, 0, i32::MAX.into())?;
        within(number.clamp(self.min, self.max), self.min, self.max)
    }
}

fn within<T: TryFrom<i64>>(number: i64, min: i64, max: i64) -> Result<T, String> {
    let inside = Some(number).filter(|number| (min..=max).contains(number));
    inside
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("argument must be between {min} and {max} inclusive"))
}

/// Bytes: a number with an optional unit. `k`, `m` and `g` are powers of 1000, `kb`, `mb` and `gb` of 1024.
pub struct Bytes {
    min: i64,
    max: i64,
}

pub const fn bytes(min: i64, max: i64) -> Bytes {
    Bytes { min, max }
}

impl ValueShape for Bytes {
    fn placeholder(&self) -> &'static str {
        "BYTES"
    }

    fn bounds(&self) -> String {
        number(self.min, self.max).bounds()
    }
}

impl<T: Copy + TryFrom<i64> + TryInto<i64>> Form<T> for Bytes {
    fn show(&self, value: &T) -> String {
        number(self.min, self.max).show(value)
    }

    fn read(&self, text: &str, _: &T) -> Result<T, String> {
        within(memory(text).ok_or("argument must be a memory value")?, self.min, self.max)
    }
}

/// As Redis reads sizes; `None` for anything else.
pub fn memory(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(lower.len());
    let unit: i64 = match &lower[digits..] {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    lower[..digits].parse::<i64>().ok()?.checked_mul(unit)
}

/// `yes` or `no`.
pub struct YesNo;

impl ValueShape for YesNo {
    fn placeholder(&self) -> &'static str {
        "yes|no"
    }
}

impl Form<bool> for YesNo {
    fn show(&self, value: &bool) -> String {
        if *value { "yes" } else { "no" }.to_owned()
    }

    fn read(&self, text: &str, _: &bool) -> Result<bool, String> {
        match text.to_ascii_lowercase().as_str() {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err("argument must be 'yes' or 'no'".to_owned()),
        }
    }
}

/// One of a few words.
pub struct OneOf(pub &'static [&'static str]);

impl ValueShape for OneOf {
    fn placeholder(&self) -> &'static str {
        "WORD"
    }

    fn bounds(&self) -> String {
        self.0.join(", ")
    }
}

impl Form<String> for OneOf {
    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn read(&self, text: &str, _: &String) -> Result<String, String> {
        let text = text.to_ascii_lowercase();
        if self.0.contains(&text.as_str()) {
            return Ok(text);
        }
        Err(format!("argument(s) must be one of the following: {}", self.0.join(", ")))
    }
}

/// Any text.
pub struct Text;

impl ValueShape for Text {
    fn placeholder(&self) -> &'static str {
        "TEXT"
    }
}

impl Form<String> for Text {
    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn read(&self, text: &str, _: &String) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

/// A path that must not be empty: an empty one would mean the working directory to some calls and nothing to
/// others.
pub struct Directory;

impl ValueShape for Directory {
    fn placeholder(&self) -> &'static str {
        "PATH"
    }
}

impl Form<PathBuf> for Directory {
    fn show(&self, value: &PathBuf) -> String {
        Path::display(value).to_string()
    }

    fn read(&self, text: &str, _: &PathBuf) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("a directory is needed; '.' is the working directory".to_owned());
        }
        Ok(PathBuf::from(text))
    }
}

/// Addresses, separated by blanks.
pub struct Addresses;

impl ValueShape for Addresses {
    fn placeholder(&self) -> &'static str {
        "ADDRESS"
    }

    fn is_list(&self) -> bool {
        true
    }
}

impl Form<Vec<String>> for Addresses {
    fn show(&self, value: &Vec<String>) -> String {
        value.join(" ")
    }

    fn read(&self, text: &str, _: &Vec<String>) -> Result<Vec<String>, String> {
        let addresses: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if addresses.is_empty() {
            return Err("an address is needed".to_owned());
        }
        match addresses.iter().find(|address| !may_be_address(address)) {
            Some(wrong) => Err(format!("'{wrong}' is not an IP address")),
            None => Ok(addresses),
        }
    }
}

/// False for what is neither an IP address nor a name that could be looked up.
fn may_be_address(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let is_four_numbers =
        text.matches('.').count() == 3 && text.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit());
    if !is_four_numbers && !text.contains(':') {
        return !text.is_empty();
    }
    let without_zone = text.split('%').next().unwrap_or(text);
    text == "::*" || without_zone.parse::<std::net::IpAddr>().is_ok()
}

/// `client-output-buffer-limit`: classes of clients, each with a hard limit, a soft limit and its seconds.
pub struct OutputLimitForm;

impl ValueShape for OutputLimitForm {
    fn placeholder(&self) -> &'static str {
        "CLASS HARD SOFT SECONDS"
    }

    fn is_list(&self) -> bool {
        true
    }
}

impl Form<OutputLimits> for OutputLimitForm {
    fn show(&self, value: &OutputLimits) -> String {
        value.show()
    }

    fn read(&self, text: &str, before: &OutputLimits) -> Result<OutputLimits, String> {
        let mut limits = *before;
        limits.set(text)?;
        Ok(limits)
    }
}

/// Percentages, separated by blanks.
pub struct PercentileForm;

impl ValueShape for PercentileForm {
    fn placeholder(&self) -> &'static str {
        "PERCENTAGE"
    }

    fn is_list(&self) -> bool {
        true
    }
}

impl Form<Vec<f64>> for PercentileForm {
    fn show(&self, value: &Vec<f64>) -> String {
        value.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")
    }

    fn read(&self, text: &str, _: &Vec<f64>) -> Result<Vec<f64>, String> {
        let read: Option<Vec<f64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
        let percentiles = read.ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        if percentiles.iter().all(|percent| (0.0..=100.0).contains(percent)) {
            return Ok(percentiles);
        }
        Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".to_owned())
    }
}

/// `notify-keyspace-events`: letters.
pub struct EventClassesForm;

impl ValueShape for EventClassesForm {
    fn placeholder(&self) -> &'static str {
        "LETTERS"
    }
}

impl Form<EventClasses> for EventClassesForm {
    fn show(&self, value: &EventClasses) -> String {
        value.show()
    }

    fn read(&self, text: &str, _: &EventClasses) -> Result<EventClasses, String> {
        EventClasses::read(text)
    }
}

/// Bytes, or a percentage of `maxmemory`.
pub struct Share;

impl ValueShape for Share {
    fn placeholder(&self) -> &'static str {
        "BYTES|PERCENT%"
    }
}

impl Form<ClientMemory> for Share {
    fn show(&self, value: &ClientMemory) -> String {
        value.show()
    }

    fn read(&self, text: &str, _: &ClientMemory) -> Result<ClientMemory, String> {
        ClientMemory::read(text)
    }
}
