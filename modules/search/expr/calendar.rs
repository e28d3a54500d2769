//! Dates of the Gregorian calendar in UTC, of seconds since 1970, and back.

pub const DAY_SECONDS: i64 = 86_400;

/// A time's date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    pub year: i64,
    /// From 0.
    pub month: u32,
    /// From 1.
    pub day: u32,
    /// From 0, Sunday.
    pub weekday: u32,
    /// From 0.
    pub yearday: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
}

/// The date; `None` if the year does not fit C's `struct tm`, whose years are 32 bits from 1900 on.
pub fn date_of(seconds: i64) -> Option<Date> {
    let (days, of_day) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS) as u32);
    // Days since March 1 of year 0, in eras of 400 years; the year begins in March, so that its leap day is
    // its last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = ((month_from_march + 2) % 12) as u32;
    let year = era * 400 + year_of_era + i64::from(month < 2);
    i32::try_from(year - 1900).ok()?;
    Some(Date {
        year,
        month,
        day,
        weekday: (days + 4).rem_euclid(7) as u32,
        yearday: (days - days_before(year, 0, 1)) as u32,
        hour: of_day / 3600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
    })
}

/// The days from 1970 to a date. Month (from 0) and day (from 1) may be out of range.
pub fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = (year + month.div_euclid(12), month.rem_euclid(12));
    let from_march = (month + 10) % 12;
    let year = year - i64::from(month < 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The year and number of the ISO 8601 week.
pub fn iso_week(date: &Date) -> (i64, u32) {
    let monday_based = (date.weekday + 6) % 7;
    let week = (i64::from(date.yearday) - i64::from(monday_based) + 10) / 7;
    if week < 1 {
        return (date.year - 1, weeks_of(date.year - 1));
    }
    if week as u32 > weeks_of(date.year) { (date.year + 1, 1) } else { (date.year, week as u32) }
}

/// How many ISO weeks a year has: 53 if it begins on a Thursday, or on a Wednesday and is a leap year.
fn weeks_of(year: i64) -> u32 {
    let first = (days_before(year, 0, 1) + 4).rem_euclid(7);
    if first == 4 || (first == 3 && is_leap(year)) { 53 } else { 52 }
}
