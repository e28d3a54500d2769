//! JSON text: read into the packed form and written from it, without anything between.

mod parse;
mod write;

pub use parse::parse;
pub use write::{Layout, write, write_number, write_string};

/// Parses any bytes, and what was made of them again, for fuzzing.
pub fn fuzz_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut packed = Vec::new();
    let Ok(depth) = parse(text, &mut packed) else { return };
    assert_eq!(crate::packed::check(&packed, depth), Some(packed.len()));
    let (mut written, mut again) = (Vec::new(), Vec::new());
    write(crate::value::JsonNode::Packed(&packed), Layout::default(), 0, &mut written);
    let written = String::from_utf8(written).expect("JSON is UTF-8");
    parse(&written, &mut again).expect("what is written is JSON");
    assert_eq!(packed, again, "{text} is written as {written}");
}

#[cfg(test)]
mod tests;
