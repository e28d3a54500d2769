//! Filters of given selectivity, random or correlated with the vectors.
//!
//! Every row has two ranks. Its *random* rank is its position in a shuffle. Its *correlated* rank is its
//! position in the order of distance from one row picked at random: the rows below some rank are one
//! neighbourhood, so that for most queries the allowed rows are far away. That is the hard case for a graph.
//! A filter of selectivity s allows exactly the rows whose rank is below s x rows, either by a NUMERIC field
//! with the rank or by a TAG field with one tag for each selectivity of the run that allows the row.

use std::str::FromStr;

use serde::Serialize;

use crate::data::Dataset;
use crate::data::truth::Distances;
use engramdb_datasets::SplitMix64;

/// The type of the field that a filter uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FilterField {
    Tag,
    Numeric,
}

/// How the allowed rows are distributed in the vector space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    Random,
    Correlated,
}

/// One filter of a sweep, written FIELD:PLACEMENT:PERCENT, such as tag:random:10.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowFilter {
    pub field: FilterField,
    pub placement: Placement,
    pub percent: f64,
}

impl FromStr for RowFilter {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{given}' is not a filter: write tag|numeric:random|correlated:PERCENT, such as tag:random:10"
            )
        };
        let [field, placement, percent] = given.split(':').collect::<Vec<_>>()[..] else {
            return Err(wrong());
        };
        Ok(RowFilter {
            field: match field {
                "tag" => FilterField::Tag,
                "numeric" => FilterField::Numeric,
                _ => return Err(wrong()),
            },
            placement: match placement {
                "random" => Placement::Random,
                "correlated" => Placement::Correlated,
                _ => return Err(wrong()),
            },
            percent: percent
                .parse()
                .ok()
                .filter(|percent| *percent > 0.0 && *percent <= 100.0)
                .ok_or_else(wrong)?,
        })
    }
}

impl std::fmt::Display for RowFilter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let field = if self.field == FilterField::Tag { "tag" } else { "numeric" };
        write!(formatter, "{field}:{}:{}", self.placement.name(), self.percent)
    }
}

impl RowFilter {
    /// How many of `rows` rows are allowed; at least one.
    pub fn allowed_count(&self, rows: usize) -> usize {
        ((rows as f64 * self.percent / 100.0).round() as usize).clamp(1, rows)
    }

    /// The name of the field in the index and in the hashes.
    pub fn field_name(&self) -> String {
        let suffix = if self.field == FilterField::Tag { "tags" } else { "rank" };
        format!("{}_{suffix}", self.placement.name())
    }

    /// The filter in FT.SEARCH's query language.
    pub fn expression(&self, rows: usize) -> String {
        match self.field {
            FilterField::Tag => format!("@{}:{{{}}}", self.field_name(), self.tag()),
            FilterField::Numeric => format!("@{}:[0 {}]", self.field_name(), self.allowed_count(rows) - 1),
        }
    }

    /// The tag of this selectivity, without characters that need escaping in the query language.
    fn tag(&self) -> String {
        format!("p{}", self.percent).replace('.', "_")
    }
}

impl Placement {
    fn name(self) -> &'static str {
        match self {
            Placement::Random => "random",
            Placement::Correlated => "correlated",
        }
    }
}

/// The ranks of all rows. Empty if no filter uses them.
#[derive(Default)]
pub struct Attributes {
    random: Vec<u32>,
    correlated: Vec<u32>,
}

impl Attributes {
    /// The ranks that `filters` use; the same ones for the same data set.
    pub fn for_filters(dataset: &Dataset, filters: &[RowFilter]) -> Self {
        let needs = |placement| filters.iter().any(|filter| filter.placement == placement);
        let rows = dataset.base.rows();
        let mut random = SplitMix64::new(0, 10, 0);
        let shuffled: Vec<u64> = (0..rows).map(|_| random.next_u64()).collect();
        let mut attributes = Self::default();
        if needs(Placement::Random) {
            attributes.random = ranks(rows, |row| shuffled[row as usize]);
        }
        if needs(Placement::Correlated) {
            let pivot = dataset.base.row(random.below(rows as u64) as usize);
            let distances = Distances::new(&dataset.base, dataset.metric);
            let distance = distances.from(pivot);
            attributes.correlated = ranks(rows, |row| orderable(distance(row)));
        }
        attributes
    }

    /// The rows that a filter allows, ascending.
    pub fn allowed(&self, filter: &RowFilter) -> Vec<u32> {
        let ranks = self.ranks(filter.placement);
        let count = filter.allowed_count(ranks.len()) as u32;
        (0..ranks.len() as u32).filter(|&row| ranks[row as usize] < count).collect()
    }

    /// Fields and values of row `row` for `filters`.
    pub fn fields(&self, row: usize, filters: &[RowFilter]) -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for filter in filters {
            let ranks = self.ranks(filter.placement);
            let rank = ranks[row];
            let name = filter.field_name();
            let present = fields.iter().position(|(other, _)| *other == name);
            match (filter.field, present) {
                (FilterField::Numeric, None) => fields.push((name, rank.to_string())),
                (FilterField::Tag, present) if (rank as usize) < filter.allowed_count(ranks.len()) => {
                    match present {
                        Some(at) => fields[at].1 = format!("{},{}", fields[at].1, filter.tag()),
                        None => fields.push((name, filter.tag())),
                    }
                }
                _ => {}
            }
        }
        fields
    }

    fn ranks(&self, placement: Placement) -> &[u32] {
        match placement {
            Placement::Random => &self.random,
            Placement::Correlated => &self.correlated,
        }
    }
}

/// The position of each row in the order of `key`; ties are in the order of rows.
fn ranks<K: Ord>(rows: usize, key: impl Fn(u32) -> K) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows as u32).collect();
    order.sort_by_cached_key(|&row| key(row));
    let mut ranks = vec![0; rows];
    order.iter().enumerate().for_each(|(rank, &row)| ranks[row as usize] = rank as u32);
    ranks
}

/// An integer with the same order as the float.
fn orderable(value: f32) -> i32 {
    let bits = value.to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic;

    fn filter(text: &str) -> RowFilter {
        text.parse().unwrap()
    }

    #[test]
    fn filters_are_written_as_they_are_read() {
        for text in ["tag:random:10", "numeric:correlated:0.01"] {
            assert_eq!(filter(text).to_string(), text);
        }
        for wrong in [
            "tag",
            "tag:random",
            "tag:near:10",
            "geo:random:1",
            "tag:random:0",
            "tag:random:101",
            "tag:random:x",
        ] {
            assert!(wrong.parse::<RowFilter>().is_err(), "{wrong}");
        }
        assert_eq!(filter("tag:random:0.1").expression(1000), "@random_tags:{p0_1}");
        assert_eq!(filter("numeric:correlated:10").expression(1000), "@correlated_rank:[0 99]");
    }

    #[test]
    fn a_filter_allows_exactly_its_share_and_the_fields_agree() {
        let dataset = synthetic::generate(1000, 8, 1);
        let filters = ["tag:random:10", "tag:random:1", "numeric:correlated:0.01"].map(filter).to_vec();
        let attributes = Attributes::for_filters(&dataset, &filters);
        for (filter, count) in filters.iter().zip([100, 10, 1]) {
            let allowed = attributes.allowed(filter);
            assert_eq!(allowed.len(), count, "{filter}");
            for row in 0..1000 {
                let value = attributes
                    .fields(row, &filters)
                    .into_iter()
                    .find(|(name, _)| *name == filter.field_name());
                let passes = value.is_some_and(|(_, value)| match filter.field {
                    FilterField::Tag => value.split(',').any(|tag| tag == filter.tag()),
                    FilterField::Numeric => value.parse::<usize>().unwrap() < count,
                });
                assert_eq!(passes, allowed.contains(&(row as u32)), "{filter}, row {row}");
            }
        }
    }

    #[test]
    fn correlated_rows_are_one_neighbourhood() {
        let dataset = synthetic::generate(2000, 16, 1);
        let filters = vec![filter("tag:random:2"), filter("tag:correlated:2")];
        let attributes = Attributes::for_filters(&dataset, &filters);
        let distances = Distances::new(&dataset.base, dataset.metric);
        let mean_distance = |filter| {
            let allowed = attributes.allowed(filter);
            let from = distances.from(dataset.base.row(allowed[0] as usize));
            allowed.iter().map(|&row| f64::from(from(row))).sum::<f64>() / allowed.len() as f64
        };
        assert!(mean_distance(&filters[1]) < 0.7 * mean_distance(&filters[0]));
    }

    #[test]
    fn floats_keep_their_order_as_integers() {
        let ascending = [f32::NEG_INFINITY, -2.0, -1.0, -0.0, 0.0, 1e-30, 1.0, f32::INFINITY];
        assert!(ascending.windows(2).all(|pair| orderable(pair[0]) < orderable(pair[1])));
    }
}
