//! Replies as text, for tests without a wire format.

use engramdb_engine::command::{CommandError, Reply};

/// A reply as one line: `[1, "a"]`, `{"k": 1}`, `ERR …`.
#[derive(Default)]
pub struct Text {
    resp3: bool,
    text: String,
    /// Open aggregates: the number of missing elements, the kind of separator, whether it is a map.
    open: Vec<(usize, bool, usize)>,
    /// The maximum number of bytes of text.
    room: Option<usize>,
    is_given_up: bool,
}

/// The text of a reply that was given up.
pub const GIVEN_UP: &str = "given up";

impl Text {
    pub fn new(is_resp3: bool) -> Text {
        Text { resp3: is_resp3, ..Text::default() }
    }

    /// For a client that accepts at most `room` bytes.
    pub fn with_room(self, room: usize) -> Text {
        Text { room: Some(room), ..self }
    }

    /// The text, or [`GIVEN_UP`].
    ///
    /// # Panics
    /// If an aggregate has fewer elements than announced.
    pub fn finish(self) -> String {
        if self.is_given_up {
            return GIVEN_UP.to_owned();
        }
        assert!(self.open.is_empty(), "an aggregate is short of elements: {}", self.text);
        self.text
    }

    fn put(&mut self, text: &str) {
        self.text.push_str(text);
        self.close();
    }

    fn close(&mut self) {
        while let Some((left, is_map, total)) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                let is_key = *is_map && (*total - *left) % 2 == 1;
                self.text.push_str(if is_key { ": " } else { ", " });
                return;
            }
            self.text.push(if *is_map { '}' } else { ']' });
            self.open.pop();
        }
    }

    fn begin(&mut self, elements: usize, is_map: bool) {
        self.text.push(if is_map { '{' } else { '[' });
        if elements == 0 {
            return self.put(if is_map { "}" } else { "]" });
        }
        self.open.push((elements, is_map, elements));
    }
}

impl Reply for Text {
    fn is_resp3(&self) -> bool {
        self.resp3
    }
    fn simple(&mut self, text: &str) {
        self.put(text);
    }
    fn error(&mut self, error: &CommandError) {
        self.put(&error.text());
    }
    fn integer(&mut self, value: i64) {
        self.put(&value.to_string());
    }
    fn bulk(&mut self, bytes: &[u8]) {
        self.put(&format!("\"{}\"", bytes.escape_ascii()));
    }
    fn null(&mut self) {
        self.put("nil");
    }
    fn null_array(&mut self) {
        self.put("nil");
    }
    fn array(&mut self, elements: usize) {
        self.begin(elements, false);
    }
    fn map(&mut self, pairs: usize) {
        self.begin(pairs * 2, self.resp3);
    }
    fn set(&mut self, elements: usize) {
        self.begin(elements, false);
    }
    fn push(&mut self, elements: usize) {
        self.begin(elements, false);
    }
    fn double(&mut self, value: f64) {
        if self.resp3 { self.put(&value.to_string()) } else { self.bulk(value.to_string().as_bytes()) }
    }
    fn boolean(&mut self, value: bool) {
        self.put(&value.to_string());
    }
    fn verbatim(&mut self, _format: &str, text: &[u8]) {
        self.bulk(text);
    }
    fn mark(&self) -> usize {
        self.text.len()
    }
    fn rewind(&mut self, mark: usize) {
        self.text.truncate(mark);
        self.open.clear();
    }
    fn room(&self) -> usize {
        self.room.map_or(usize::MAX, |room| room.saturating_sub(self.text.len()))
    }
    fn give_up(&mut self) {
        self.is_given_up = true;
    }
}
