//! The range of an axis, and the labels of its ticks: round numbers with as many digits as distinguish them.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// Linear, starting at zero: heights of bars are compared by their lengths.
    FromZero,
    Log,
}

/// An axis: its range, and its labels with their values, ascending.
#[derive(Debug)]
pub struct Ticks {
    low: f64,
    high: f64,
    is_log: bool,
    pub labels: Vec<(f64, String)>,
}

/// The approximate number of ticks on an axis.
const COUNT: f64 = 8.0;
/// The margin beyond the outermost values, as a share of the range.
const PADDING: f64 = 0.04;

impl Ticks {
    /// An axis that contains all values. Without values it goes from zero to one; a logarithmic one uses only
    /// values above zero.
    pub fn around(values: impl Iterator<Item = f64>, scale: Scale) -> Self {
        let is_log = scale == Scale::Log;
        let transformed = values.filter(|value| !is_log || *value > 0.0);
        let transformed = transformed.map(|value| if is_log { value.log10() } else { value });
        let (mut low, mut high) = transformed
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let range = if high > low { high - low } else { high.abs().max(0.1) };
        high += range * PADDING;
        low -= range * PADDING;
        if scale == Scale::FromZero {
            low = low.min(0.0);
            if low > -range * PADDING * 1.5 {
                low = 0.0;
            }
        }
        let labels = if is_log { decades(low, high) } else { steps(low, high) };
        Self { low, high, is_log, labels }
    }

    /// The pixel of a value, between those of the two ends. Values outside are drawn at the ends.
    pub fn place(&self, value: f64, from: i32, to: i32) -> i32 {
        let value = if self.is_log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        from + (share * f64::from(to - from)).round() as i32
    }
}

/// Multiples of one, two or five times a power of ten.
fn steps(low: f64, high: f64) -> Vec<(f64, String)> {
    let least = (high - low) / COUNT;
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|&step| step >= least);
    let step = step.unwrap_or(10.0 * power);
    // A step of 0.05 needs two digits, one of 50 none.
    let digits = (-(step * 1.001).log10().floor()).max(0.0) as usize;
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|number| number as f64 * step).map(|value| (value, text(value, digits))).collect()
}

/// One, two and five times powers of ten; equal steps if fewer than three of them are in the range.
fn decades(low: f64, high: f64) -> Vec<(f64, String)> {
    let powers = low.floor() as i32..=high.ceil() as i32;
    let factors: &[u8] = if high - low > 4.0 { &[1] } else { &[1, 2, 5] };
    let all = powers.flat_map(|power| factors.iter().map(move |factor| (*factor, power)));
    let labels: Vec<(f64, String)> = all
        .filter_map(|(factor, power)| {
            let value: f64 = format!("{factor}e{power}").parse().ok()?;
            let digits = usize::try_from(-power).unwrap_or(0);
            (low..=high).contains(&value.log10()).then(|| (value, text(value, digits)))
        })
        .collect();
    if labels.len() >= 3 { labels } else { steps(10f64.powf(low), 10f64.powf(high)) }
}

/// With commas between thousands.
fn text(value: f64, digits: usize) -> String {
    let plain = format!("{:.digits$}", value.abs());
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 && plain.contains(|digit| ('1'..='9').contains(&digit)) { "-" } else { "" };
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], scale: Scale) -> Vec<String> {
        Ticks::around(values.iter().copied(), scale).labels.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn labels_are_round_and_as_long_as_they_must_be() {
        assert_eq!(labels(&[0.9, 1.0], Scale::Linear), ["0.90", "0.92", "0.94", "0.96", "0.98", "1.00"]);
        assert_eq!(labels(&[0.0, 35_000.0], Scale::FromZero)[..3], ["0", "5,000", "10,000"]);
        assert_eq!(
            labels(&[1_200.0, 80_000.0], Scale::Log),
            ["2,000", "5,000", "10,000", "20,000", "50,000"]
        );
        assert_eq!(labels(&[0.03, 2.0], Scale::Log), ["0.05", "0.1", "0.2", "0.5", "1", "2"]);
        assert_eq!(labels(&[-2.0, 2.0], Scale::Linear), ["-2", "-1", "0", "1", "2"]);
    }

    #[test]
    fn labels_are_distinct_for_every_range() {
        for scale in [Scale::Linear, Scale::FromZero, Scale::Log] {
            for low in [1e-6, 0.003, 0.97, 1.0, 5.0, 400.0, 9_000.0, 1e7] {
                for span in [1e-5, 0.001, 0.02, 0.3, 1.0, 7.0, 500.0, 1e6] {
                    let labels = labels(&[low, low * (1.0 + span)], scale);
                    let mut distinct = labels.clone();
                    distinct.sort();
                    distinct.dedup();
                    assert_eq!(distinct.len(), labels.len(), "{scale:?} from {low} by {span}: {labels:?}");
                    assert!(labels.len() >= 2, "{scale:?} from {low} by {span}: {labels:?}");
                }
            }
        }
        assert!(labels(&[3.0], Scale::Linear).len() >= 2, "one value");
        assert!(labels(&[], Scale::Log).len() >= 2, "none at all");
    }

    #[test]
    fn positions_are_between_the_ends() {
        let ticks = Ticks::around([1.0, 100.0].into_iter(), Scale::Log);
        let middle = ticks.place(10.0, 0, 1000);
        assert_eq!(middle, 500);
        assert_eq!((ticks.place(0.0, 0, 1000), ticks.place(1e9, 0, 1000)), (0, 1000));
        let bars = Ticks::around([3.0, 5.0].into_iter(), Scale::FromZero);
        assert_eq!(bars.place(0.0, 400, 0), 400, "bars begin at zero");
    }
}
