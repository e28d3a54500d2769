//! Templates: parsed queries whose parameters have no values yet.
//!
//! Clients send the same text repeatedly, with another vector or number in PARAMS. So the text is parsed
//! once, with a slot for each parameter, and each search fills the slots with its values. All searches share
//! a tree that has no slots. A slot is the number of a word of the request.
//!
//! Each kind of value has one reader here. The parser uses it for literals in the text, `bind` for values of
//! parameters, so that both are checked alike.

use super::attributes::Attributed;
use super::expand::Expansion;
use super::values::{self, Affix};
use super::{Knn, Node, Pattern, Query, ShapeQuery, TextMatch, VectorRange};
use crate::documents::geo::{GeoCircle, GeoUnit, Position};
use crate::documents::postings::Limit;
use crate::documents::shapes::{Geometry, ShapePredicate};
use crate::error::{self, ErrorStyle, Kind, SearchError};
use crate::schema::{Definition, FieldKind};
use crate::words::whole_number;
use std::sync::Arc;

/// The most neighbours that a query may request: a larger number is most likely a mistake.
const K_MAX: usize = 1_000_000;
const EF_MAX: usize = 1_000_000;

type Parsed<T> = Result<T, SearchError>;

/// A parsed query without the values of its parameters.
#[derive(Debug)]
pub struct Template {
    pub filter: Arc<Node>,
    /// True if the filter has a slot.
    is_open: bool,
    knn: Option<OpenKnn>,
    /// The numbers of the request's words that are weights.
    weights: Vec<usize>,
    expansion: Expansion,
}

/// A value as the query writes it: text, or a parameter, given as the number of the request's word.
#[derive(Clone, Copy)]
pub enum Raw<'a> {
    Text(&'a [u8]),
    Word(usize),
}

/// A known value, or the number of the request's word that will be the value.
#[derive(Clone, Debug, PartialEq)]
pub enum Slot<T> {
    Given(T),
    Word(usize),
}

/// A leaf with at least one slot.
#[derive(Clone, Debug, PartialEq)]
pub enum OpenLeaf {
    Tag {
        field: usize,
        case_sensitive: bool,
        affix: Affix,
        word: usize,
    },
    /// A term in TEXT fields; `is_named` if the query names them, otherwise they are all.
    Term {
        fields: Arc<[usize]>,
        is_named: bool,
        affix: Affix,
        word: usize,
    },
    /// A range (`is_range`) or a comparison.
    Number {
        field: usize,
        least: OpenLimit,
        most: OpenLimit,
        is_range: bool,
    },
    Near(OpenCircle),
    /// The word is the shape.
    Geometry {
        field: usize,
        predicate: ShapePredicate,
        word: usize,
    },
    Range(OpenRange),
}

/// See `GeoCircle`.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenCircle {
    pub field: usize,
    /// Longitude, latitude and radius.
    pub numbers: [OpenNumber; 3],
    pub unit: Slot<GeoUnit>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OpenLimit {
    pub number: OpenNumber,
    pub exclusive: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OpenNumber {
    pub sign: f64,
    pub value: Slot<f64>,
}

/// See `VectorRange`.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenRange {
    pub field: usize,
    pub radius: OpenNumber,
    /// The number of the vector's word.
    pub vector: usize,
    pub epsilon: Option<Slot<f32>>,
    pub alias: Option<Slot<Arc<[u8]>>>,
}

/// See `Knn`.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenKnn {
    field: usize,
    k: Slot<usize>,
    /// The number of the vector's word.
    vector: usize,
    pub ef_runtime: Option<Slot<usize>>,
    pub recall: Option<Slot<f32>>,
    pub alias: Slot<Arc<[u8]>>,
    /// A second name of the distance, which `bind` refuses.
    pub second_alias: Option<Slot<Arc<[u8]>>>,
    pub policy: Option<Slot<Policy>>,
    /// This and what follows is checked, but does not change the answer.
    pub batch_size: Option<Slot<usize>>,
    pub buffer_capacity: Option<Slot<usize>>,
    pub shard_ratio: Option<Slot<f64>>,
}

/// RediSearch's methods of searching filtered documents (HYBRID_POLICY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The matches of the filter are compared one by one.
    Exact,
    /// The filter is applied to batches of near documents. There are no batches here: the plan is chosen as
    /// without a policy.
    Batches,
}

impl Template {
    pub fn new(filter: Node, knn: Option<OpenKnn>, weights: Vec<usize>) -> Template {
        let is_open = has_open(&filter);
        Template { is_open, filter: Arc::new(filter), knn, weights, expansion: Expansion::default() }
    }

    /// Expands the words of the query, now or, if it has slots, when they are filled.
    pub fn expand(&mut self, definition: &Definition, expansion: Expansion) -> Parsed<()> {
        if !self.is_open {
            expansion.check(definition, &self.filter)?;
            let filter = Arc::unwrap_or_clone(std::mem::replace(&mut self.filter, Arc::new(Node::All)));
            self.filter = Arc::new(expansion.apply(definition, filter));
        }
        self.expansion = expansion;
        Ok(())
    }

    /// Adds conditions, all of which a document must meet. As in RediSearch, they are further parts of an
    /// intersection.
    pub fn narrow(&mut self, conditions: Vec<Node>) {
        if conditions.is_empty() {
            return;
        }
        let filter = Arc::unwrap_or_clone(std::mem::replace(&mut self.filter, Arc::new(Node::All)));
        let joined = |first: Vec<Node>| [first, conditions].concat();
        self.filter = Arc::new(match filter {
            Node::And(nodes) => Node::And(joined(nodes)),
            Node::With(with) if matches!(with.node, Node::And(_)) => {
                let Attributed { node, attributes } = *with;
                let Node::And(nodes) = node else { unreachable!("it was looked at") };
                Node::With(Box::new(Attributed { node: Node::And(joined(nodes)), attributes }))
            }
            filter => {
                let mut nodes =
                    joined(Some(filter).filter(|filter| *filter != Node::All).into_iter().collect());
                if nodes.len() == 1 { nodes.remove(0) } else { Node::And(nodes) }
            }
        });
    }

    /// The query with these words of a request in its slots. Fails if a value does not fit its place.
    pub fn bind(&self, definition: &Definition, words: &[&[u8]]) -> Parsed<Query> {
        let values = Values { definition, words };
        let filter = match self.is_open {
            true => {
                let filter = values.node(&self.filter)?;
                self.expansion.check(definition, &filter)?;
                Arc::new(self.expansion.apply(definition, filter))
            }
            false => self.filter.clone(),
        };
        let knn = self.knn.as_ref().map(|knn| values.knn(knn)).transpose()?;
        self.weights.iter().try_for_each(|&word| check_weight(words[word]))?;
        check_aliases(&filter, knn.as_ref())?;
        Ok(Query { filter, knn })
    }
}

/// Refuses equal names of two distances.
fn check_aliases(filter: &Node, knn: Option<&Knn>) -> Parsed<()> {
    if !filter.has_range() {
        return Ok(());
    }
    let mut names: Vec<&[u8]> = knn.map(|knn| &*knn.alias).into_iter().collect();
    let mut twice = None;
    filter.ranges(&mut |range| {
        let Some(name) = range.alias.as_deref() else { return };
        if names.contains(&name) {
            twice.get_or_insert(name);
        }
        names.push(name);
    });
    match twice {
        Some(name) => Err(Kind::NameTwice.of(name)),
        None => Ok(()),
    }
}

fn has_open(node: &Node) -> bool {
    match node {
        Node::Open(_) => true,
        Node::With(with) if with.attributes.is_open() => true,
        node => node.children().iter().any(has_open),
    }
}

impl<T: Clone> Slot<T> {
    /// Reads a value written in the text; a parameter's value is read by `value`.
    pub fn of(raw: Raw<'_>, read: impl FnOnce(&[u8]) -> Parsed<T>) -> Parsed<Slot<T>> {
        match raw {
            Raw::Text(text) => read(text).map(Slot::Given),
            Raw::Word(word) => Ok(Slot::Word(word)),
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self, Slot::Word(_))
    }

    /// The value of a slot that has one.
    pub fn given(&self) -> &T {
        match self {
            Slot::Given(value) => value,
            Slot::Word(_) => unreachable!("a query has values for its parameters"),
        }
    }

    pub fn value(&self, words: &[&[u8]], read: impl FnOnce(&[u8]) -> Parsed<T>) -> Parsed<T> {
        match self {
            Slot::Given(value) => Ok(value.clone()),
            Slot::Word(word) => read(words[*word]),
        }
    }
}

impl OpenNumber {
    fn given(&self) -> Option<f64> {
        match self.value {
            Slot::Given(value) => Some(self.sign * value),
            Slot::Word(_) => None,
        }
    }
}

impl OpenLeaf {
    /// The leaf as a node: a closed one if it is a number whose limits are both known.
    pub fn closed(self) -> Node {
        if let OpenLeaf::Number { field, least, most, .. } = &self
            && let (Slot::Given(low), Slot::Given(high)) = (&least.number.value, &most.number.value)
        {
            let limit = |open: &OpenLimit, value: f64| Limit {
                value: open.number.sign * value,
                exclusive: open.exclusive,
            };
            return Node::Number { field: *field, least: limit(least, *low), most: limit(most, *high) };
        }
        if let OpenLeaf::Near(OpenCircle { field, numbers, unit: Slot::Given(unit) }) = &self
            && let [Some(longitude), Some(latitude), Some(radius)] = numbers.each_ref().map(OpenNumber::given)
            && let Ok(circle) = GeoCircle::new(Position { longitude, latitude }, radius, *unit)
        {
            return Node::Near { field: *field, circle };
        }
        Node::Open(self)
    }
}

impl OpenKnn {
    /// Without attributes, and with an empty alias that the caller must replace.
    pub fn new(field: usize, k: Slot<usize>, vector: usize) -> OpenKnn {
        let alias = Slot::Given(Arc::from(&b""[..]));
        OpenKnn {
            field,
            k,
            vector,
            ef_runtime: None,
            recall: None,
            alias,
            second_alias: None,
            policy: None,
            batch_size: None,
            buffer_capacity: None,
            shard_ratio: None,
        }
    }
}

/// The words of a request, from which slots are filled.
struct Values<'a> {
    definition: &'a Definition,
    words: &'a [&'a [u8]],
}

impl Values<'_> {
    fn node(&self, node: &Node) -> Parsed<Node> {
        let all = |nodes: &[Node]| nodes.iter().map(|node| self.node(node)).collect::<Parsed<Vec<Node>>>();
        Ok(match node {
            Node::Open(leaf) => self.leaf(leaf)?,
            Node::And(nodes) => Node::And(all(nodes)?),
            Node::Or(nodes) => Node::Or(all(nodes)?),
            Node::Not(node) => Node::Not(Box::new(self.node(node)?)),
            Node::Optional(node) => Node::Optional(Box::new(self.node(node)?)),
            Node::With(with) => Node::With(Box::new(Attributed {
                node: self.node(&with.node)?,
                attributes: with.attributes.bound(self.words)?,
            })),
            closed => closed.clone(),
        })
    }

    fn leaf(&self, leaf: &OpenLeaf) -> Parsed<Node> {
        Ok(match leaf {
            OpenLeaf::Tag { field, case_sensitive, affix, word } => {
                let pattern = values::pattern(*affix, self.words[*word], *case_sensitive);
                check_empty(self.definition, &[*field], &pattern)?;
                Node::Tag { field: *field, pattern }
            }
            OpenLeaf::Term { fields, is_named, affix, word } => {
                let pattern = values::pattern(*affix, self.words[*word], false);
                check_fuzzy(&pattern)?;
                if *is_named {
                    check_empty(self.definition, fields, &pattern)?;
                }
                Node::Text { fields: fields.clone(), text: TextMatch::Term(pattern) }
            }
            OpenLeaf::Number { field, least, most, is_range } => {
                let [least, most] = [(least, "lower"), (most, "upper")]
                    .map(|(limit, end)| self.limit(limit, is_range.then_some(end)));
                Node::Number { field: *field, least: least?, most: most? }
            }
            OpenLeaf::Near(circle) => self.circle(circle)?,
            OpenLeaf::Geometry { field, predicate, word } => {
                self.shape(*field, *predicate, self.words[*word])?
            }
            OpenLeaf::Range(range) => Node::Range(self.range(range)?),
        })
    }

    /// The limit with its value. `end` is "lower" or "upper" for a range, `None` for a comparison.
    fn limit(&self, limit: &OpenLimit, end: Option<&str>) -> Parsed<Limit> {
        let unreadable = |digits: &[u8], name: &[u8]| match end {
            Some(end) => {
                Kind::BadLimitNumber.with([end.into(), error::text(digits).into(), error::text(name).into()])
            }
            None => unreadable_number(digits, name),
        };
        // In a range, a parameter's value may begin with `(` for an exclusive limit, as a literal may.
        let read = |digits: &[u8]| match digits.strip_prefix(b"(") {
            Some(digits) if end.is_some() => Some((true, values::number(digits)?)),
            _ => Some((false, values::number(digits)?)),
        };
        let (exclusive, value) = match &limit.number.value {
            Slot::Given(value) => (false, *value),
            Slot::Word(word) => self.given(&Slot::Word(*word), read, unreadable)?,
        };
        Ok(Limit { value: limit.number.sign * value, exclusive: limit.exclusive || exclusive })
    }

    fn number(&self, open: &OpenNumber) -> Parsed<f64> {
        Ok(open.sign * self.given(&open.value, values::number, unreadable_number)?)
    }

    /// The slot's value, read by `read`. Where that fails, `unreadable` makes the error of the parameter's
    /// value and name.
    fn given<T: Clone>(
        &self,
        slot: &Slot<T>,
        read: impl Fn(&[u8]) -> Option<T>,
        unreadable: impl Fn(&[u8], &[u8]) -> SearchError,
    ) -> Parsed<T> {
        match slot {
            Slot::Given(number) => Ok(number.clone()),
            // In PARAMS, a value follows its name.
            Slot::Word(word) => {
                let (digits, name) = (self.words[*word], self.words[*word - 1]);
                read(digits).ok_or_else(|| unreadable(digits, name))
            }
        }
    }

    fn shape(&self, field: usize, predicate: ShapePredicate, text: &[u8]) -> Parsed<Node> {
        let FieldKind::GeoShape(coordinates) = self.definition.fields[field].kind else {
            unreachable!("the parser checked the field's type")
        };
        let wrong = |cause: SearchError| {
            Kind::ShapeQuery.of(cause.in_style(ErrorStyle::Plain).to_string().as_bytes())
        };
        let shape = Geometry::read(text, coordinates).map_err(wrong)?;
        Ok(Node::Geometry(ShapeQuery { field, predicate, shape: Arc::new(shape), text: Arc::from(text) }))
    }

    fn circle(&self, circle: &OpenCircle) -> Parsed<Node> {
        let [longitude, latitude, radius] = &circle.numbers;
        let centre = Position { longitude: self.number(longitude)?, latitude: self.number(latitude)? };
        let radius = self.number(radius)?;
        let unit = circle.unit.value(self.words, geo_unit)?;
        Ok(Node::Near { field: circle.field, circle: GeoCircle::new(centre, radius, unit)? })
    }

    fn range(&self, range: &OpenRange) -> Parsed<VectorRange> {
        let radius = self.number(&range.radius)?;
        refuse_negative(radius)?;
        let epsilon = range.epsilon.as_ref().map(|slot| slot.value(self.words, epsilon));
        let alias = range.alias.as_ref().map(|slot| self.alias(slot));
        Ok(VectorRange {
            field: range.field,
            radius,
            vector: self.vector(range.field, range.vector)?,
            epsilon: epsilon.transpose()?,
            alias: alias.transpose()?,
            word: range.vector,
        })
    }

    fn knn(&self, knn: &OpenKnn) -> Parsed<Knn> {
        let alias = self.alias(&knn.alias)?;
        if let Some(second) = &knn.second_alias {
            let second = self.alias(second)?;
            return Err(Kind::SecondName.with([error::text(&alias).into(), error::text(&second).into()]));
        }
        let policy = self.policy(knn)?;
        let ef_runtime = knn.ef_runtime.as_ref().map(|slot| slot.value(self.words, count));
        let recall = knn.recall.as_ref().map(|slot| slot.value(self.words, recall));
        Ok(Knn {
            field: knn.field,
            k: self.given(&knn.k, whole_number, unreadable_number).and_then(check_k)?,
            vector: self.vector(knn.field, knn.vector)?,
            ef_runtime: ef_runtime.transpose()?,
            // What is compared one by one is found whole.
            recall: if policy == Some(Policy::Exact) { Some(1.0) } else { recall.transpose()? },
            policy,
            alias,
            word: knn.vector,
        })
    }

    /// Checks the attributes that choose RediSearch's method, and returns the policy.
    fn policy(&self, knn: &OpenKnn) -> Parsed<Option<Policy>> {
        knn.shard_ratio.as_ref().map(|slot| slot.value(self.words, shard_ratio)).transpose()?;
        for slot in knn.batch_size.iter().chain(&knn.buffer_capacity) {
            slot.value(self.words, count)?;
        }
        let policy = knn.policy.as_ref().map(|slot| slot.value(self.words, policy)).transpose()?;
        if policy == Some(Policy::Exact) && knn.batch_size.is_some() {
            return Err(Kind::ExactWithBatchSize.error());
        }
        if policy == Some(Policy::Exact) && knn.ef_runtime.is_some() {
            return Err(Kind::ExactWithEf.error());
        }
        Ok(policy)
    }

    fn alias(&self, slot: &Slot<Arc<[u8]>>) -> Parsed<Arc<[u8]>> {
        slot.value(self.words, |name| alias(name, self.definition))
    }

    /// The query vector: a blob of the field's size with finite components.
    fn vector(&self, field: usize, word: usize) -> Parsed<Vec<u8>> {
        let FieldKind::Vector(options) = &self.definition.fields[field].kind else {
            unreachable!("the parser checked the field's type")
        };
        let blob = self.words[word];
        if blob.len() != options.blob_bytes() {
            return Err(error::vector_query(&format!(
                "query vector blob size ({}) does not match index's expected size ({}).",
                blob.len(),
                options.blob_bytes()
            )));
        }
        if !options.is_vector(blob) {
            return Err(error::vector_query("the query vector has a component that is not a finite number"));
        }
        Ok(blob.to_vec())
    }
}

/// Reads a `k` that the text writes in digits; a number beyond `usize` is too large.
pub fn k(digits: &[u8]) -> Parsed<usize> {
    check_k(whole_number(digits).unwrap_or(usize::MAX))
}

fn check_k(k: usize) -> Parsed<usize> {
    if k > K_MAX {
        let text = format!("query KNN K parameter is too large, must not exceed {K_MAX}");
        return Err(error::vector_query(&text));
    }
    Ok(k)
}

/// Reads a number from 1 to `EF_MAX`.
pub fn count(digits: &[u8]) -> Parsed<usize> {
    whole_number(digits).filter(|number| (1..=EF_MAX).contains(number)).ok_or_else(invalid_value)
}

/// Reads a recall above 0 and at most 1. RediSearch does not have this attribute.
pub fn recall(digits: &[u8]) -> Parsed<f32> {
    let recall = values::number(digits).filter(|recall| *recall > 0.0 && *recall <= 1.0);
    recall.map(|recall| (recall as f32).max(f32::MIN_POSITIVE)).ok_or_else(|| Kind::BadRecall.of(digits))
}

/// Refuses a circle whose values are known and wrong; parameters' values are checked by `bind`.
pub fn check_circle(circle: &OpenCircle) -> Parsed<()> {
    let [longitude, latitude, radius] = circle.numbers.each_ref().map(OpenNumber::given);
    if let (Some(longitude), Some(latitude), Some(radius), Slot::Given(unit)) =
        (longitude, latitude, radius, &circle.unit)
    {
        GeoCircle::new(Position { longitude, latitude }, radius, *unit)?;
    }
    Ok(())
}

pub fn geo_unit(name: &[u8]) -> Parsed<GeoUnit> {
    GeoUnit::read(name).ok_or_else(|| Kind::GeoFilterUnit.error())
}

pub fn epsilon(digits: &[u8]) -> Parsed<f32> {
    let epsilon = values::number(digits).filter(|epsilon| *epsilon > 0.0);
    epsilon.map(|epsilon| epsilon as f32).ok_or_else(invalid_value)
}

pub fn policy(name: &[u8]) -> Parsed<Policy> {
    match name.to_ascii_uppercase().as_slice() {
        b"ADHOC_BF" => Ok(Policy::Exact),
        b"BATCHES" => Ok(Policy::Batches),
        _ => Err(Kind::BadPolicy.error()),
    }
}

/// The share of `k` that each of several shards looks for.
pub fn shard_ratio(digits: &[u8]) -> Parsed<f64> {
    let ratio = values::number(digits).filter(|ratio| *ratio > 0.0 && *ratio <= 1.0);
    ratio.ok_or_else(|| Kind::BadShardRatio.of(digits))
}

/// The most characters of a word that may be changed. It bounds the time and memory of a comparison.
const FUZZY_MAX: usize = 255;

/// Refuses a word that is too long to be changed.
pub fn check_fuzzy(pattern: &Pattern) -> Parsed<()> {
    match pattern {
        Pattern::Fuzzy(word, _) if word.len() > FUZZY_MAX => {
            Err(error::unsupported(&format!("Fuzzy matching of more than {FUZZY_MAX} bytes is")))
        }
        _ => Ok(()),
    }
}

/// Refuses a search for the empty string if none of the fields has INDEXEMPTY.
pub fn check_empty(definition: &Definition, fields: &[usize], pattern: &Pattern) -> Parsed<()> {
    let is_empty = matches!(pattern, Pattern::Exact(term) if term.is_empty());
    if is_empty && !fields.iter().any(|&field| definition.fields[field].index_empty) {
        return Err(Kind::NeedsIndexEmpty.error());
    }
    Ok(())
}

/// Reads the name of a distance, which must not be a field's name.
pub fn alias(name: &[u8], definition: &Definition) -> Parsed<Arc<[u8]>> {
    if definition.field(name).is_some() {
        return Err(Kind::NameTaken.of(name));
    }
    Ok(Arc::from(name))
}

/// Refuses a negative radius; a parameter's value is checked by `bind`.
pub fn check_radius(radius: &OpenNumber) -> Parsed<()> {
    match radius.value {
        Slot::Given(value) => refuse_negative(radius.sign * value),
        Slot::Word(_) => Ok(()),
    }
}

fn refuse_negative(radius: f64) -> Parsed<()> {
    if radius < 0.0 {
        return Err(error::vector_query(&format!("negative radius ({radius}) given in a range query")));
    }
    Ok(())
}

fn unreadable_number(digits: &[u8], name: &[u8]) -> SearchError {
    Kind::BadNumber.with([error::text(digits).into(), error::text(name).into()])
}

fn invalid_value() -> SearchError {
    Kind::VectorValue.error()
}

/// Refuses a weight that is no number or negative. Weights only change scores.
pub fn check_weight(digits: &[u8]) -> Parsed<()> {
    match values::number(digits).filter(|weight| *weight >= 0.0) {
        Some(_) => Ok(()),
        None => Err(Kind::BadAttributeValue.with([error::text(digits).into(), "weight".into()])),
    }
}
