//! Splits a query's text into tokens, as RediSearch does at DIALECT 2.
//!
//! A word is a run of letters, digits, `_` and escaped punctuation. Other characters without a meaning (most
//! punctuation, spaces, control characters, a lone backslash) separate words and are skipped. Tokens are read
//! one at a time, so that they take no memory.
//!
//! Two rules are peculiar to RediSearch. Where the grammar expects words, a number with its sign is a word,
//! so that `-3` is no negation. An error about punctuation names the last word before it.

/// The kind of a token. Token texts are still escaped, and exclude the marks that determine their kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    End,
    Word,
    /// Digits, a decimal number or `inf`, with an optional sign.
    Number,
    /// `@name`.
    Field,
    /// `$name`.
    Parameter,
    /// Text between two double or two single quotation marks.
    Quoted,
    /// The text between the marks of `w'…'`.
    Wildcard,
    /// `pre*`, `*suf`, `*inf*`; the part without stars is a word, a parameter's name or quoted text.
    Affix {
        leading: bool,
        trailing: bool,
        of: Part,
    },
    Arrow,
    /// `==`, `!=`, `>=`, `<=`, `>`, `<`; only after a field's name.
    Comparison,
    /// A punctuation mark of the grammar: `( ) { } [ ] | : ; - ~ * % "`.
    Mark(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Word,
    Parameter,
    Quoted,
}

#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    pub kind: TokenKind,
    /// The offset of its beginning, in bytes.
    pub at: usize,
    pub text: &'a [u8],
    /// The text that an error about this token quotes ("near").
    pub near: &'a [u8],
}

impl Token<'_> {
    pub fn is(&self, mark: u8) -> bool {
        self.kind == TokenKind::Mark(mark)
    }

    pub fn is_keyword(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }
}

/// A reading position in a query's text.
#[derive(Clone, Copy)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    /// The last token; errors refer to it.
    last: Token<'a>,
}

pub fn is_word_byte(byte: u8) -> bool {
    byte == b'_' || !(byte.is_ascii_punctuation() || is_blank(byte))
}

/// Spaces and control characters.
pub fn is_blank(byte: u8) -> bool {
    byte.is_ascii_control() || byte == b' '
}

pub fn is_quotation_mark(byte: u8) -> bool {
    byte == b'"' || byte == b'\''
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a [u8]) -> Lexer<'a> {
        let last = Token { kind: TokenKind::End, at: 0, text: b"", near: b"" };
        Lexer { text, at: 0, last }
    }

    /// The next token; `End` after the last one.
    pub fn next(&mut self) -> Token<'a> {
        while let Some(&byte) = self.text.get(self.at) {
            let (kind, inside, end) = match self.token(byte) {
                Some(found) => found,
                None => {
                    self.at += 1;
                    continue;
                }
            };
            let text = &self.text[inside.0..inside.1];
            let near = match kind {
                TokenKind::Mark(_) | TokenKind::Comparison => self.last.near,
                TokenKind::Arrow => &self.text[self.at + 1..(self.at + 3).min(self.text.len())],
                _ => text,
            };
            // An error at a comparison, or at the value missing after it, gives the position of the field.
            let at = if kind == TokenKind::Comparison { self.last.at } else { self.at };
            self.last = Token { kind, at, text, near };
            self.at = end;
            return self.last;
        }
        Token { kind: TokenKind::End, text: b"", ..self.last }
    }

    /// The token that begins with this byte: its kind, the start and end of its text, and its own end. `None`
    /// for a byte that is skipped.
    fn token(&self, byte: u8) -> Option<(TokenKind, (usize, usize), usize)> {
        let at = self.at;
        let mark = |length: usize, kind: TokenKind| Some((kind, (at, at + length), at + length));
        match byte {
            b'@' | b'$' => {
                let end = self.word_end(at + 1);
                let kind = if byte == b'@' { TokenKind::Field } else { TokenKind::Parameter };
                if end == at + 1 {
                    return None;
                }
                if byte == b'$' && self.is_star(end) {
                    let kind = TokenKind::Affix { leading: false, trailing: true, of: Part::Parameter };
                    return Some((kind, (at + 1, end), end + 1));
                }
                Some((kind, (at + 1, end), end))
            }
            b'=' if self.text.get(at + 1) == Some(&b'>') => mark(2, TokenKind::Arrow),
            b'=' | b'!' | b'<' | b'>' if self.last.kind == TokenKind::Field => {
                let length = if self.text.get(at + 1) == Some(&b'=') { 2 } else { 1 };
                let is_one = length == 2 || matches!(byte, b'<' | b'>');
                if is_one { mark(length, TokenKind::Comparison) } else { None }
            }
            b'"' | b'\'' => self.quotation(at, at, TokenKind::Quoted).or_else(|| {
                // A double quotation mark that is never closed is an error at its place; a single one is
                // skipped.
                if byte == b'"' { mark(1, TokenKind::Mark(b'"')) } else { None }
            }),
            b'w' if self.text.get(at + 1).copied().is_some_and(is_quotation_mark) => {
                self.quotation(at, at + 1, TokenKind::Wildcard).or_else(|| self.word_or_number(at))
            }
            b'*' => self.starred(at).or_else(|| mark(1, TokenKind::Mark(b'*'))),
            b'-' | b'+' => self
                .word_or_number(at)
                .or_else(|| if byte == b'-' { mark(1, TokenKind::Mark(b'-')) } else { None }),
            b'(' | b')' | b'{' | b'}' | b'[' | b']' | b'|' | b':' | b';' | b'~' | b'%' => {
                mark(1, TokenKind::Mark(byte))
            }
            _ => self.word_or_number(at),
        }
    }

    fn is_star(&self, at: usize) -> bool {
        self.text.get(at) == Some(&b'*')
    }

    /// The end of the word that begins at `from`; `from` itself if none does.
    fn word_end(&self, from: usize) -> usize {
        let mut at = from;
        while let Some(&byte) = self.text.get(at) {
            if is_word_byte(byte) {
                at += 1;
            } else if byte == b'\\' && self.text.get(at + 1).is_some_and(|&next| is_escapable(next)) {
                at += 2;
            } else {
                break;
            }
        }
        at
    }

    /// The end of the number that begins here: a sign, digits, a fraction and an exponent, or `inf`.
    fn number_end(&self, from: usize) -> Option<usize> {
        let signed = from + usize::from(matches!(self.text.get(from), Some(b'-' | b'+')));
        let digits =
            |from: usize| from + self.text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let inf = signed + 3;
        if self.text.get(signed..inf).is_some_and(|word| word.eq_ignore_ascii_case(b"inf"))
            && self.word_end(signed) == inf
        {
            return Some(inf);
        }
        let mut end = digits(signed);
        if end == signed {
            return None;
        }
        if self.text.get(end) == Some(&b'.') && digits(end + 1) > end + 1 {
            end = digits(end + 1);
        }
        if matches!(self.text.get(end), Some(b'e' | b'E')) {
            let power = end + 1 + usize::from(matches!(self.text.get(end + 1), Some(b'-' | b'+')));
            end = if digits(power) > power { digits(power) } else { end };
        }
        Some(end)
    }

    /// The longer of a word and a number; a number if they are equally long. A star after it makes it a
    /// prefix.
    fn word_or_number(&self, at: usize) -> Option<(TokenKind, (usize, usize), usize)> {
        let (word, number) = (self.word_end(at), self.number_end(at).unwrap_or(at));
        let (kind, end) = if number >= word { (TokenKind::Number, number) } else { (TokenKind::Word, word) };
        // A lone `_` is punctuation.
        if end == at || self.text[at..end] == *b"_" {
            return None;
        }
        if self.is_star(end) {
            let kind = TokenKind::Affix { leading: false, trailing: true, of: Part::Word };
            return Some((kind, (at, end), end + 1));
        }
        Some((kind, (at, end), end))
    }

    /// `*suf` or `*inf*`.
    fn starred(&self, at: usize) -> Option<(TokenKind, (usize, usize), usize)> {
        let next = *self.text.get(at + 1)?;
        let (of, start, end, behind) = match next {
            b'$' => (Part::Parameter, at + 2, self.word_end(at + 2), None),
            mark if is_quotation_mark(mark) => {
                let close = closing_mark(self.text, at + 1)?;
                (Part::Quoted, at + 2, close, Some(close + 1))
            }
            _ => (Part::Word, at + 1, self.word_end(at + 1).max(self.number_end(at + 1).unwrap_or(0)), None),
        };
        let behind = behind.unwrap_or(end);
        if end == start && of != Part::Quoted {
            return None;
        }
        let trailing = self.is_star(behind);
        let kind = TokenKind::Affix { leading: true, trailing, of };
        Some((kind, (start, end), behind + usize::from(trailing)))
    }

    /// The text quoted by the mark at `mark`. A star after it makes it a prefix.
    fn quotation(
        &self,
        at: usize,
        mark: usize,
        kind: TokenKind,
    ) -> Option<(TokenKind, (usize, usize), usize)> {
        let close = closing_mark(self.text, mark)?;
        debug_assert!(mark >= at);
        if kind == TokenKind::Quoted && self.is_star(close + 1) {
            let kind = TokenKind::Affix { leading: false, trailing: true, of: Part::Quoted };
            return Some((kind, (mark + 1, close), close + 2));
        }
        Some((kind, (mark + 1, close), close + 1))
    }
}

/// True for bytes that a backslash turns into a character of a word.
fn is_escapable(byte: u8) -> bool {
    byte.is_ascii_punctuation() || byte == b' ' || (9..=13).contains(&byte)
}

/// The position of the mark that closes the quotation opened at `at`; `None` if none does.
fn closing_mark(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    while *text.get(end)? != text[at] {
        end += if text[end] == b'\\' { 2 } else { 1 };
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &[u8]) -> Vec<(TokenKind, String)> {
        let mut lexer = Lexer::new(text);
        std::iter::from_fn(|| {
            let token = lexer.next();
            (token.kind != TokenKind::End)
                .then(|| (token.kind, String::from_utf8_lossy(token.text).into_owned()))
        })
        .collect()
    }

    fn texts(text: &[u8]) -> Vec<String> {
        tokens(text).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn words_end_where_nothing_is_escaped() {
        assert_eq!(
            texts(br"\hello hel\lo a\ b \-x foo_bar"),
            ["hello", "hel", "lo", r"a\ b", r"\-x", "foo_bar"]
        );
        assert_eq!(texts(b"a\x01b\x7fc\x00d,e.f"), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(texts("Ünï\\".as_bytes()), ["Ünï"]);
    }

    #[test]
    fn numbers_are_words_with_their_sign() {
        let number = |text: &str| (TokenKind::Number, text.to_owned());
        assert_eq!(tokens(b"-3 +3.5 1e-5 -inf"), ["-3", "+3.5", "1e-5", "-inf"].map(number));
        let minus = (TokenKind::Mark(b'-'), "-".to_owned());
        assert_eq!(tokens(b"- 3"), [minus.clone(), number("3")]);
        assert_eq!(tokens(b"-information"), [minus, (TokenKind::Word, "information".to_owned())]);
        assert_eq!(tokens(b"7x 3.5"), [(TokenKind::Word, "7x".to_owned()), number("3.5")]);
    }

    #[test]
    fn stars_belong_to_what_they_touch() {
        let affix = |leading, trailing, of| TokenKind::Affix { leading, trailing, of };
        assert_eq!(tokens(b"a*"), [(affix(false, true, Part::Word), "a".to_owned())]);
        assert_eq!(tokens(b"*$p*"), [(affix(true, true, Part::Parameter), "p".to_owned())]);
        assert_eq!(tokens(b"*'a b'"), [(affix(true, false, Part::Quoted), "a b".to_owned())]);
        assert_eq!(tokens(br"a\*"), [(TokenKind::Word, r"a\*".to_owned())]);
        assert_eq!(
            tokens(b"* a"),
            [(TokenKind::Mark(b'*'), "*".to_owned()), (TokenKind::Word, "a".to_owned())]
        );
    }

    #[test]
    fn comparisons_follow_fields_only() {
        assert_eq!(texts(b"a>=b @n>=5"), ["a", "b", "n", ">=", "5"]);
        assert_eq!(texts(b"@n!=5 @n=5"), ["n", "!=", "5", "n", "5"]);
    }
}
