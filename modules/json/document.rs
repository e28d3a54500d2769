//! A document as a value of the keyspace.

use crate::effect::{self, NUMBER};
use crate::error;
use crate::limits::{DOCUMENT_BYTES_MAX, MULTIPLIED_BYTES_MAX};
use crate::location::{self, LocationStep, Steps};
use crate::packed::{self, JsonNumber};
use crate::path::{self, ClientPath, JsonPath, WalkBudget, locate, select, select_first};
use crate::text::{self, Layout};
use crate::value::tree::{Container, ItemBlock, Root};
use crate::value::{JsonNode, NodeContent};
use engramdb_engine::command::CommandError;
use engramdb_engine::effect::Effect;
use engramdb_engine::keyspace::digest::mix;
use engramdb_engine::keyspace::{
    DataType, DocumentPath, DocumentSource, EachEffect, EffectOrigin, EncodingLimits, FieldValue, PathCost,
    SAVED_BYTES_MAX, SAVED_PARTS_MAX, Several, ShownValue, TypedValue,
};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;

/// The version of the encoding that RedisJSON has used since 2.0.
const RDB_VERSION: u16 = 3;

/// The data type of documents.
pub struct JsonType;

impl DataType for JsonType {
    fn name(&self) -> &'static str {
        "ReJSON-RL"
    }

    fn module(&self) -> u8 {
        NUMBER
    }

    fn blank(&self) -> Box<dyn TypedValue> {
        Box::<JsonDocument>::default()
    }

    fn documents(&self) -> Option<&'static str> {
        Some("JSON")
    }

    /// RedisJSON 2 stores a document as its text; older versions had trees.
    fn build_of_rdb(
        &self,
        version: u16,
        text: &[u8],
        key: &[u8],
        each: &mut EachEffect<'_>,
    ) -> Option<io::Result<()>> {
        let text = std::str::from_utf8(text).ok().filter(|_| [2, RDB_VERSION].contains(&version))?;
        let mut payload = Vec::new();
        text::parse(text, &mut payload).ok()?;
        if payload.len() > DOCUMENT_BYTES_MAX {
            return None;
        }
        location::put(&mut payload, &[]);
        Some(each(&effect::of(key, effect::SET, &payload)))
    }

    fn concerns(&self, effect: &Effect<'_>, count: Option<usize>, path: &[u8]) -> bool {
        match *effect {
            Effect::Module { kind, payload, .. } => path::concerns(kind, payload, count, path),
            _ => true,
        }
    }

    fn concerns_at(&self, effect: &Effect<'_>, count: Option<usize>, path: &DocumentPath) -> bool {
        match (effect, compiled(path)) {
            (Effect::Module { kind, payload, .. }, Some(query)) => {
                path::reaches(*kind, payload, count, query)
            }
            _ => true,
        }
    }

    fn leads_to_one(&self, path: &[u8]) -> bool {
        let parsed = std::str::from_utf8(path).ok().and_then(|text| JsonPath::parse(text).ok());
        parsed.is_some_and(|path| path.is_static())
    }

    fn path_cost(&self, path: &[u8]) -> PathCost {
        let parsed = std::str::from_utf8(path).ok().and_then(|text| JsonPath::parse(text).ok());
        parsed.map_or(PathCost::Lookup, |path| path.cost())
    }

    fn patterns_in(&self, path: &[u8]) -> usize {
        let parsed = std::str::from_utf8(path).ok().and_then(|text| JsonPath::parse(text).ok());
        parsed.map_or(0, |path| path.patterns())
    }

    fn is_document_path(&self, path: &[u8]) -> bool {
        std::str::from_utf8(path).is_ok_and(|text| JsonPath::parse(text).is_ok())
    }
}

/// The path of a field; `None` if it is malformed.
fn compiled(path: &DocumentPath) -> Option<&JsonPath<'static>> {
    path.parsed(|path| JsonPath::compiled(std::str::from_utf8(path).ok()?)).as_ref()
}

#[derive(Clone, Debug, Default)]
pub struct JsonDocument {
    /// Absent only before the first effect.
    root: Option<Root>,
}

impl JsonDocument {
    pub fn of(root: Root) -> JsonDocument {
        JsonDocument { root: Some(root) }
    }

    /// The whole document.
    pub fn value(&self) -> JsonNode<'_> {
        self.root.as_ref().map_or(JsonNode::Packed(&[packed::NULL]), Root::value)
    }

    /// The bytes of the content. They are the same after a restart, where `heap_bytes` is not: whether an
    /// index or a reply takes a document does not depend on its history.
    pub fn content_bytes(&self) -> usize {
        self.root.as_ref().map_or(0, Root::packed_bytes)
    }

    /// Whether it is one large text that a reader refers to: its next change copies it.
    pub fn is_shared_text(&self) -> bool {
        self.root.as_ref().is_some_and(Root::is_shared_text)
    }

    /// What a walk over it may cost.
    pub fn budget(&self) -> WalkBudget {
        WalkBudget::of_document(self.content_bytes())
    }

    /// The same under the lock.
    pub fn budget_under_lock(&self) -> WalkBudget {
        WalkBudget::under_lock(self.content_bytes())
    }

    /// The most bytes of values that a reply shows: a path can lead to a value many times.
    pub fn shown_bytes_max(&self) -> usize {
        const ALWAYS: usize = 1 << 20;
        ALWAYS.saturating_add(self.content_bytes().saturating_mul(16))
    }

    /// Whether a command may add `bytes` at each of `places` places. A command that adds more is refused.
    pub fn check_growth(&self, places: usize, bytes: usize) -> Result<(), CommandError> {
        let total = places.saturating_mul(bytes);
        if places > 1 && total > MULTIPLIED_BYTES_MAX {
            return Err(error::TOO_MANY_BYTES);
        }
        if self.content_bytes().saturating_add(total) > DOCUMENT_BYTES_MAX {
            return Err(error::TOO_LARGE);
        }
        Ok(())
    }

    /// The first value at a path.
    pub fn first(&self, path: &ClientPath<'_>) -> Result<Option<JsonNode<'_>>, CommandError> {
        let query = path.query()?;
        let mut first = None;
        locate(&query, self.value(), &mut self.budget(), &mut |steps, _| {
            first.get_or_insert_with(|| Steps::from_slice(steps));
        })?;
        Ok(first.and_then(|steps| effect::at(self.value(), &steps)))
    }

    /// Calls `each` with the values at a path of an index or a query. False if it leads to too many.
    fn select(&self, path: &[u8], mut each: impl FnMut(JsonNode<'_>)) -> bool {
        let Ok(text) = std::str::from_utf8(path) else { return true };
        let Ok(query) = JsonPath::parse(text) else { return true };
        select(&query, self.value(), &mut WalkBudget::of_index(), &mut |node| each(node)).is_ok()
    }

    /// The same for the first value. False if the walk to it takes too much.
    fn select_first(&self, path: &[u8], each: impl FnOnce(JsonNode<'_>)) -> bool {
        let Ok(text) = std::str::from_utf8(path) else { return true };
        let Ok(query) = JsonPath::parse(text) else { return true };
        let first = select_first(&query, self.value(), &mut WalkBudget::of_index());
        first.map(|first| first.map_or((), each)).is_ok()
    }
}

impl JsonDocument {
    /// The first value at a path as RediSearch shows it: a text without quotes, floats with twelve digits,
    /// booleans as 1 and 0.
    fn first_shown(&self, path: &[u8]) -> Option<ShownValue<'_>> {
        let mut shown = None;
        self.select_first(path, |node| {
            shown = Some(match node.content() {
                NodeContent::Null => ShownValue::Null,
                NodeContent::Text(text) => ShownValue::Text(Cow::Owned(text.to_vec())),
                NodeContent::Boolean(boolean) => {
                    ShownValue::Text((if boolean { &b"1"[..] } else { b"0" }).into())
                }
                NodeContent::Number(JsonNumber::Float(number)) => ShownValue::Number(number),
                _ => {
                    let mut text = Vec::new();
                    text::write(node, Layout::default(), 0, &mut text);
                    ShownValue::Text(Cow::Owned(text))
                }
            });
        });
        shown
    }
}

impl TypedValue for JsonDocument {
    fn data_type(&self) -> &'static dyn DataType {
        &JsonType
    }

    fn encoding(&self, _: &EncodingLimits) -> &'static str {
        "raw"
    }

    fn len(&self) -> usize {
        match &self.root {
            None => 0,
            Some(Root::Flat(_) | Root::Text(_)) => 1,
            Some(Root::Large(container)) => 1 + container.below(),
        }
    }

    fn heap_bytes(&self) -> usize {
        self.root.as_ref().map_or(0, Root::heap_bytes)
    }

    fn touch(&self) {
        const LINE_BYTES: usize = 64;
        const TOUCHED_LINES: usize = 4;
        if let Some(Root::Flat(bytes)) = &self.root {
            let lines = bytes.iter().step_by(LINE_BYTES).take(TOUCHED_LINES);
            std::hint::black_box(lines.fold(0, |all, byte| all ^ byte));
        }
    }

    fn apply(&mut self, effect: &Effect<'_>, origin: EffectOrigin) -> Option<usize> {
        match *effect {
            Effect::Module { version: effect::VERSION, kind, payload, .. } => {
                effect::apply(&mut self.root, kind, payload, origin)
            }
            _ => None,
        }
    }

    fn document(&self) -> Option<&dyn DocumentSource> {
        Some(self)
    }

    fn save(&self, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64> {
        let container = match &self.root {
            None => return Ok(0),
            Some(Root::Large(container)) => container,
            Some(small) => {
                let mut payload = Vec::with_capacity(small.packed_bytes() + 1);
                small.value().pack(&mut payload);
                payload.push(0);
                each(&effect::of(key, effect::SET, &payload))?;
                return Ok(0);
            }
        };
        let mut next = usize::try_from(cursor).expect("a cursor of this value").saturating_sub(1);
        if cursor == 0 {
            each(&effect::of(key, effect::SET, &[empty(container), &[0]].concat()))?;
        }
        let (mut bytes, mut effects) = (0, 0);
        while next < container.below() && bytes < SAVED_BYTES_MAX && effects < SAVED_PARTS_MAX {
            let payload = fill(container, next);
            each(&effect::of(key, effect::FILL, &payload))?;
            (next, bytes, effects) = (next + 1, bytes + payload.len(), effects + 1);
        }
        Ok(if next < container.below() { next as u64 + 1 } else { 0 })
    }

    fn rdb_text(&self) -> Option<(u16, Vec<u8>)> {
        let mut text = Vec::new();
        text::write(self.value(), Layout::default(), 0, &mut text);
        Some((RDB_VERSION, text))
    }

    /// Of the packed form without the lengths of bodies, so that it does not depend on blocks.
    fn digest(&self) -> u64 {
        let mut digest = Digest { sum: mix(3, b"JSON"), pending: Vec::new() };
        if self.root.is_some() {
            digest.add(self.value());
        }
        mix(digest.sum, &digest.pending)
    }

    fn copy(&self) -> Box<dyn TypedValue> {
        Box::new(self.clone())
    }
}

fn empty(container: &Container) -> &'static [u8] {
    if container.is_object() { packed::EMPTY_OBJECT } else { packed::EMPTY_ARRAY }
}

/// The payload that adds a block to its container, after all blocks before it were added. Blocks are numbered
/// in the document's order; a block comes before the blocks inside it.
fn fill(root: &Container, block: usize) -> Vec<u8> {
    let mut steps = Steps::new();
    let (mut container, mut left) = (root, block);
    'search: loop {
        let mut index = 0;
        for block in container.blocks() {
            match block {
                block if left == 0 => return fill_with(&steps, container, block),
                ItemBlock::Run { count, .. } => {
                    left -= 1;
                    index += count;
                }
                ItemBlock::Large { name, container: inner } if left <= inner.below() => {
                    steps.push(if container.is_object() {
                        LocationStep::Name(name)
                    } else {
                        LocationStep::Index(index)
                    });
                    (container, left) = (inner, left - 1);
                    continue 'search;
                }
                ItemBlock::Large { container: inner, .. } => {
                    left -= 1 + inner.below();
                    index += 1;
                }
            }
        }
        unreachable!("the container has the block")
    }
}

fn fill_with(steps: &[LocationStep<'_>], container: &Container, block: &ItemBlock) -> Vec<u8> {
    let mut payload = Vec::new();
    location::put(&mut payload, steps);
    match block {
        ItemBlock::Run { bytes, count, .. } => {
            location::put_number(&mut payload, *count as u64);
            payload.extend_from_slice(bytes);
        }
        ItemBlock::Large { name, container: inner } => {
            location::put_number(&mut payload, 1);
            if container.is_object() {
                packed::put_text(&mut payload, name);
            }
            payload.extend_from_slice(empty(inner));
        }
    }
    payload
}

struct Digest {
    sum: u64,
    pending: Vec<u8>,
}

impl Digest {
    const CHUNK: usize = 4096;

    fn add(&mut self, node: JsonNode<'_>) {
        let Some(is_object) = node.is_object() else {
            node.pack(&mut self.pending);
            return self.flush();
        };
        let items = node.items().into_iter().flatten();
        self.pending.push(if is_object { b'{' } else { b'[' });
        location::put_number(&mut self.pending, items.size_hint().0 as u64);
        for (name, value) in items {
            if is_object {
                packed::put_text(&mut self.pending, name);
            }
            self.add(value);
        }
    }

    fn flush(&mut self) {
        let whole = self.pending.len() / Digest::CHUNK * Digest::CHUNK;
        if whole > 0 {
            self.sum = self.pending[..whole].chunks(Digest::CHUNK).fold(self.sum, mix);
            self.pending.drain(..whole);
        }
    }
}

/// The numbers of an array of numbers alone.
fn numbers(node: JsonNode<'_>) -> Option<Vec<f64>> {
    let items = node.items().filter(|_| node.is_array())?;
    let mut numbers = Vec::with_capacity(items.len());
    for (_, item) in items {
        numbers.push(item.number()?.as_f64());
    }
    Some(numbers)
}

fn each_value(node: JsonNode<'_>, each: &mut dyn FnMut(FieldValue<'_>)) {
    if let Some(numbers) = numbers(node) {
        each(FieldValue::Numbers(&numbers));
    } else if node.is_array() {
        let items = node.items().into_iter().flatten().map(|(_, item)| field_value(item));
        each(FieldValue::Array(&items.collect::<Vec<_>>()));
    } else {
        each(field_value(node));
    }
}

fn field_value(node: JsonNode<'_>) -> FieldValue<'_> {
    match node.content() {
        NodeContent::Null => FieldValue::Null,
        NodeContent::Boolean(boolean) => FieldValue::Boolean(boolean),
        NodeContent::Number(number) => FieldValue::Number(number.as_f64()),
        NodeContent::Text(text) => std::str::from_utf8(text).map_or(FieldValue::Other, FieldValue::Text),
        NodeContent::Array(_) | NodeContent::Object(_) => FieldValue::Other,
    }
}

impl DocumentSource for JsonDocument {
    fn values(&self, path: &[u8], each: &mut dyn FnMut(FieldValue<'_>)) {
        if !self.select(path, |node| each_value(node, each)) {
            each(FieldValue::Other);
        }
    }

    fn values_at(&self, path: &DocumentPath, each: &mut dyn FnMut(FieldValue<'_>)) {
        let Some(query) = compiled(path) else { return };
        let budget = &mut WalkBudget::of_index();
        if select(query, self.value(), budget, &mut |node| each_value(node, each)).is_err() {
            each(FieldValue::Other);
        }
    }

    fn first_value(&self, path: &[u8], each: &mut dyn FnMut(FieldValue<'_>)) {
        if !self.select_first(path, |node| each_value(node, each)) {
            each(FieldValue::Other);
        }
    }

    fn shown(&self, path: &[u8], several: Several) -> Option<ShownValue<'_>> {
        match several {
            Several::First => self.first_shown(path),
            Several::All => {
                let mut text = Vec::new();
                let is_whole = self.select(path, |node| {
                    if text.len() <= self.shown_bytes_max() {
                        text.push(if text.is_empty() { b'[' } else { b',' });
                        text::write(node, Layout::default(), 0, &mut text);
                    }
                });
                let is_shown = !text.is_empty() && is_whole && text.len() <= self.shown_bytes_max();
                is_shown.then(|| {
                    text.push(b']');
                    ShownValue::List(Cow::Owned(text))
                })
            }
        }
    }

    fn each_shown<'s>(&'s self, several: Several, each: &mut dyn FnMut(&'s [u8], ShownValue<'s>)) {
        let mut text = Vec::new();
        let is_list = several == Several::All;
        text.extend_from_slice(if is_list { b"[" } else { b"" });
        text::write(self.value(), Layout::default(), 0, &mut text);
        text.extend_from_slice(if is_list { b"]" } else { b"" });
        let text = Cow::Owned(text);
        each(b"$", if is_list { ShownValue::List(text) } else { ShownValue::Text(text) });
    }

    fn walked_bytes(&self) -> usize {
        self.content_bytes()
    }

    fn bytes_at(&self, path: &[u8]) -> usize {
        let mut bytes = 0;
        self.select_first(path, |node| bytes = node.bytes());
        bytes
    }

    fn held(&self) -> Option<Arc<dyn DocumentSource>> {
        Some(Arc::new(self.clone()))
    }
}
