//! Well-known text, as RediSearch reads it: `POINT(x y)`, and `POLYGON((x y, ...), ...)` with holes.

use super::{Point, ShapeKind};

/// Reads a shape; fails with RediSearch's text.
pub fn read(bytes: &[u8]) -> Result<ShapeKind, String> {
    let text = String::from_utf8_lossy(bytes);
    let (is_point, rest) = match (text.strip_prefix("POINT"), text.strip_prefix("POLYGON")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err("unknown geometry type".to_owned()),
    };
    let mut tokens = Tokens { text: &text, rest };
    if rest.starts_with(|letter: char| letter.is_alphanumeric()) {
        let name = if is_point { "POINT" } else { "POLYGON" };
        return Err(format!("Should start with '{name}'' in ({text})"));
    }
    let kind = match (is_point, tokens.peek()) {
        (true, Some("EMPTY")) => {
            tokens.next();
            ShapeKind::Point([0.0; 2])
        }
        (false, Some("EMPTY")) => {
            tokens.next();
            ShapeKind::Polygon(Vec::new())
        }
        (true, _) => {
            tokens.expect("(")?;
            let point = tokens.point()?;
            tokens.expect(")")?;
            ShapeKind::Point(point)
        }
        (false, _) => ShapeKind::Polygon(tokens.list(|tokens| tokens.list(|tokens| tokens.point()))?),
    };
    match tokens.next() {
        None => Ok(kind),
        Some(token) => Err(format!("Too many tokens at '{token}' in '{text}'")),
    }
}

struct Tokens<'t> {
    /// All of it, for errors.
    text: &'t str,
    rest: &'t str,
}

impl<'t> Tokens<'t> {
    fn peek(&self) -> Option<&'t str> {
        Tokens { ..*self }.next()
    }

    /// A mark, or what is between marks and white space.
    fn next(&mut self) -> Option<&'t str> {
        let rest = self.rest.trim_start();
        let is_end = |letter: char| letter.is_whitespace() || "(),".contains(letter);
        let length = match rest.find(is_end) {
            _ if rest.is_empty() => return None,
            Some(0) => 1,
            Some(end) => end,
            None => rest.len(),
        };
        let (token, rest) = rest.split_at(length);
        self.rest = rest;
        Some(token)
    }

    fn expect(&mut self, mark: &str) -> Result<(), String> {
        match self.next() {
            Some(token) if token == mark => Ok(()),
            Some(token) => Err(format!("Expected '{mark}' at '{token}' in '{}'", self.text)),
            None => Err(format!("Expected '{mark}' in '{}'", self.text)),
        }
    }

    /// Coordinates that are not written are 0.
    fn point(&mut self) -> Result<Point, String> {
        let mut point = [0.0; 2];
        for coordinate in &mut point {
            match self.peek() {
                None | Some("(" | ")" | ",") => break,
                Some(token) => {
                    let number: Option<f64> = token.parse().ok();
                    // What is written as a number and is none is too large.
                    let is_said =
                        |number: &f64| !number.is_infinite() || token.to_ascii_lowercase().contains("inf");
                    *coordinate = number.filter(is_said).ok_or_else(|| {
                        format!(
                            "bad lexical cast: source type value could not be interpreted as target at '{token}' in '{}'",
                            self.text
                        )
                    })?;
                    self.next();
                }
            }
        }
        Ok(point)
    }

    /// A list in parentheses.
    fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        self.expect("(")?;
        let mut list = Vec::new();
        if self.peek() == Some(")") {
            self.next();
            return Ok(list);
        }
        loop {
            list.push(each(self)?);
            match self.peek() {
                Some(",") => _ = self.next(),
                _ => {
                    self.expect(")")?;
                    return Ok(list);
                }
            }
        }
    }
}
