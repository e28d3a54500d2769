//! A value as it is read, packed or in a large container: the one view that paths, texts and replies have.

pub mod flat;
pub mod tree;

use crate::packed::{self, ContainerHeader, JsonNumber};
use tree::{Container, ItemBlock};

/// Items that are passed in the time of one visit of a walk.
pub const ITEMS_OF_VISIT: usize = 4;

/// A value of a document.
#[derive(Clone, Copy, Debug)]
pub enum JsonNode<'a> {
    /// Begins with the value; bytes of others may follow.
    Packed(&'a [u8]),
    Large(&'a Container),
}

/// What a value is.
#[derive(Clone, Copy, Debug)]
pub enum NodeContent<'a> {
    Null,
    Boolean(bool),
    Number(JsonNumber),
    Text(&'a [u8]),
    Array(NodeItems<'a>),
    Object(NodeItems<'a>),
}

impl<'a> JsonNode<'a> {
    #[inline]
    pub fn content(self) -> NodeContent<'a> {
        let bytes = match self {
            JsonNode::Packed(bytes) => bytes,
            JsonNode::Large(container) if container.is_object() => {
                return NodeContent::Object(container.items());
            }
            JsonNode::Large(container) => return NodeContent::Array(container.items()),
        };
        match bytes[0] {
            packed::NULL => return NodeContent::Null,
            packed::FALSE => return NodeContent::Boolean(false),
            packed::TRUE => return NodeContent::Boolean(true),
            _ => {}
        }
        if let Some((text, _)) = packed::text(bytes) {
            return NodeContent::Text(text);
        }
        if let Some(header) = ContainerHeader::of(bytes) {
            let items = NodeItems::of_body(bytes, header);
            return if header.is_object { NodeContent::Object(items) } else { NodeContent::Array(items) };
        }
        NodeContent::Number(packed::number(bytes).expect("a value that was checked"))
    }

    /// The elements of an array, or the members of an object; `None` if it is neither.
    #[inline]
    pub fn items(self) -> Option<NodeItems<'a>> {
        match self {
            JsonNode::Packed(bytes) => {
                ContainerHeader::of(bytes).map(|header| NodeItems::of_body(bytes, header))
            }
            JsonNode::Large(container) => Some(container.items()),
        }
    }

    /// Whether it is an object; `None` if it is no container.
    #[inline]
    pub fn is_object(self) -> Option<bool> {
        match self {
            JsonNode::Packed(bytes) => ContainerHeader::of(bytes).map(|header| header.is_object),
            JsonNode::Large(container) => Some(container.is_object()),
        }
    }

    pub fn is_array(self) -> bool {
        self.is_object() == Some(false)
    }

    /// The member of this name.
    #[inline]
    pub fn member(self, name: &[u8]) -> Option<JsonNode<'a>> {
        match self {
            JsonNode::Packed(_) if self.is_object() == Some(true) => {
                self.items()?.find_map(|(found, value)| (found == name).then_some(value))
            }
            JsonNode::Large(container) => container.member(name),
            JsonNode::Packed(_) => None,
        }
    }

    /// What it costs to find a member or an element, in visits of a walk. It is a function of the content
    /// alone: what a budget suffices for must not depend on where the history has put blocks.
    #[inline]
    pub fn lookup_cost(self) -> usize {
        let (count, body) = match self {
            JsonNode::Packed(bytes) => {
                ContainerHeader::of(bytes).map_or((0, 1), |header| (header.count, header.size()))
            }
            JsonNode::Large(container) => (container.len(), container.packed_bytes()),
        };
        // All blocks are passed, and the items of one. Where items differ much in size, one block has more
        // items than this says, and there are fewer blocks: together it is a ninth of the time at least.
        let of_run = count.min(tree::RUN_MAX * count / body);
        1 + of_run / ITEMS_OF_VISIT + count.min(body / tree::RUN_FULL)
    }

    /// The elements of an array from this one on: to find it costs a lookup. `None` if it is none.
    pub fn elements_from(self, index: usize) -> Option<NodeItems<'a>> {
        match self {
            JsonNode::Packed(bytes) => {
                let header = ContainerHeader::of(bytes).filter(|header| !header.is_object)?;
                let (body, index) = (&bytes[header.bytes..header.size()], index.min(header.count));
                Some(NodeItems::of_run(&body[flat::start_of(body, index)..], false, header.count - index))
            }
            JsonNode::Large(container) => container.elements_from(index),
        }
    }

    /// The element at this place, from 0.
    pub fn element(self, index: usize) -> Option<JsonNode<'a>> {
        match self {
            JsonNode::Packed(bytes) => {
                let header = ContainerHeader::of(bytes).filter(|header| !header.is_object)?;
                let body = &bytes[header.bytes..header.size()];
                (index < header.count).then(|| JsonNode::Packed(&body[flat::start_of(body, index)..]))
            }
            JsonNode::Large(container) if !container.is_object() => container.element(index),
            _ => None,
        }
    }

    pub fn number(self) -> Option<JsonNumber> {
        match self {
            JsonNode::Packed(bytes) => packed::number(bytes),
            JsonNode::Large(_) => None,
        }
    }

    pub fn text(self) -> Option<&'a [u8]> {
        match self {
            JsonNode::Packed(bytes) => packed::text(bytes).map(|(text, _)| text),
            JsonNode::Large(_) => None,
        }
    }

    /// What JSON.TYPE calls it.
    pub fn type_name(self) -> &'static str {
        match self.content() {
            NodeContent::Null => "null",
            NodeContent::Boolean(_) => "boolean",
            NodeContent::Number(JsonNumber::Float(_)) => "number",
            NodeContent::Number(_) => "integer",
            NodeContent::Text(_) => "string",
            NodeContent::Array(_) => "array",
            NodeContent::Object(_) => "object",
        }
    }

    /// The memory that it takes in its document.
    pub fn bytes(self) -> usize {
        match self {
            JsonNode::Packed(value) => packed::size(value),
            JsonNode::Large(container) => container.heap_bytes(),
        }
    }

    /// The bytes of its packed form: they do not depend on its history.
    pub fn content_bytes(self) -> usize {
        match self {
            JsonNode::Packed(value) => packed::size(value),
            JsonNode::Large(container) => container.packed_bytes(),
        }
    }

    /// Appends the packed form.
    pub fn pack(self, out: &mut Vec<u8>) {
        let container = match self {
            JsonNode::Packed(bytes) => return out.extend_from_slice(&bytes[..packed::size(bytes)]),
            JsonNode::Large(container) => container,
        };
        let opened = packed::open(out);
        for (name, value) in container.items() {
            if container.is_object() {
                packed::put_text(out, name);
            }
            value.pack(out);
        }
        packed::close(out, opened, container.is_object(), container.len());
    }
}

/// The items of a container: name and value, the name empty in arrays.
#[derive(Clone, Copy, Debug)]
pub struct NodeItems<'a> {
    is_object: bool,
    /// How many items are left.
    count: usize,
    /// The items that come next, packed.
    run: &'a [u8],
    /// The blocks behind them.
    blocks: &'a [ItemBlock],
}

impl<'a> NodeItems<'a> {
    #[inline]
    fn of_body(bytes: &'a [u8], header: ContainerHeader) -> NodeItems<'a> {
        let run = &bytes[header.bytes..header.size()];
        NodeItems { is_object: header.is_object, count: header.count, run, blocks: &[] }
    }

    /// A run of packed items.
    pub fn of_run(run: &'a [u8], is_object: bool, count: usize) -> NodeItems<'a> {
        NodeItems { is_object, count, run, blocks: &[] }
    }

    /// The items of the run, and after them those of these blocks. `count` includes both.
    pub fn followed_by(self, blocks: &'a [ItemBlock]) -> NodeItems<'a> {
        NodeItems { blocks, ..self }
    }

    pub fn of_blocks(blocks: &'a [ItemBlock], is_object: bool, count: usize) -> NodeItems<'a> {
        NodeItems { is_object, count, run: &[], blocks }
    }
}

impl<'a> Iterator for NodeItems<'a> {
    type Item = (&'a [u8], JsonNode<'a>);

    #[inline]
    fn next(&mut self) -> Option<(&'a [u8], JsonNode<'a>)> {
        while self.run.is_empty() {
            let (block, rest) = self.blocks.split_first()?;
            self.blocks = rest;
            match block {
                ItemBlock::Run { bytes, .. } => self.run = bytes,
                ItemBlock::Large { name, container } => {
                    self.count -= 1;
                    return Some((name, JsonNode::Large(container)));
                }
            }
        }
        self.count -= 1;
        let mut name = &self.run[..0];
        let mut rest = self.run;
        if self.is_object {
            let (found, length) = packed::text(rest).expect("a name is a text");
            (name, rest) = (found, &rest[length..]);
        }
        self.run = &rest[packed::size(rest)..];
        Some((name, JsonNode::Packed(rest)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for NodeItems<'_> {}
