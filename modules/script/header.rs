//! The first line of a script, which may name its interpreter, its library and its flags.

use engramdb_engine::command::CommandError;

/// A flag of scripts and functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    pub const NO_WRITES: Flags = Flags(1);
    pub const ALLOW_OOM: Flags = Flags(1 << 1);
    pub const ALLOW_STALE: Flags = Flags(1 << 2);
    pub const NO_CLUSTER: Flags = Flags(1 << 3);
    pub const ALLOW_CROSS_SLOT_KEYS: Flags = Flags(1 << 4);
    /// All flags that this program knows.
    pub const ALL: Flags = Flags((1 << 5) - 1);

    /// Redis's names, in its order.
    pub const NAMES: &[(Flags, &str)] = &[
        (Flags::NO_WRITES, "no-writes"),
        (Flags::ALLOW_OOM, "allow-oom"),
        (Flags::ALLOW_STALE, "allow-stale"),
        (Flags::NO_CLUSTER, "no-cluster"),
        (Flags::ALLOW_CROSS_SLOT_KEYS, "allow-cross-slot-keys"),
    ];

    pub fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    pub fn add(&mut self, flag: Flags) {
        self.0 |= flag.0;
    }

    /// The flag of this name in any case.
    pub fn named(name: &[u8]) -> Option<Flags> {
        let found = Flags::NAMES.iter().find(|(_, known)| known.as_bytes().eq_ignore_ascii_case(name));
        found.map(|(flag, _)| *flag)
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| *name)
    }
}

/// What the first line of EVAL's script says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptHeader {
    /// `None` without a shebang.
    pub flags: Option<Flags>,
    /// The bytes of the first line, without its end, if it is a shebang.
    pub bytes: usize,
}

impl ScriptHeader {
    pub fn of(body: &[u8]) -> Result<ScriptHeader, CommandError> {
        if !body.starts_with(b"#!") {
            return Ok(ScriptHeader::default());
        }
        let line = first_line(body).ok_or(CommandError::of("ERR Invalid script shebang"))?;
        let mut parts = parts_of(line);
        match parts.next() {
            None => return Err(CommandError::of("ERR Invalid engine in script shebang")),
            Some(b"#!lua") => {}
            Some(engine) => {
                return Err(CommandError::of_parts(&[b"ERR Unexpected engine in script shebang: ", engine]));
            }
        }
        let mut flags = Flags::default();
        for part in parts {
            let Some(names) = part.strip_prefix(b"flags=") else {
                return Err(CommandError::of_parts(&[b"ERR Unknown lua shebang option: ", part]));
            };
            for name in names.split(|byte| *byte == b',').filter(|_| !names.is_empty()) {
                let flag = Flags::NAMES.iter().find(|(_, known)| known.as_bytes() == name);
                let (flag, _) = flag.ok_or_else(|| {
                    CommandError::of_parts(&[b"ERR Unexpected flag in script shebang: ", name])
                })?;
                flags.add(*flag);
            }
        }
        Ok(ScriptHeader { flags: Some(flags), bytes: line.len() })
    }
}

/// What the first line of a library says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryHeader {
    pub name: String,
    /// As it was given; there is only `lua`, in any case.
    pub engine: Vec<u8>,
    /// The bytes of the first line, without its end.
    pub bytes: usize,
}

impl LibraryHeader {
    pub fn of(code: &[u8]) -> Result<LibraryHeader, CommandError> {
        if !code.starts_with(b"#!") {
            return Err(CommandError::of("ERR Missing library metadata"));
        }
        const INVALID: CommandError = CommandError::of("ERR Invalid library metadata");
        let line = first_line(code).ok_or(INVALID)?;
        let mut parts = parts_of(line);
        let engine = parts.next().ok_or(INVALID)?[2..].to_vec();
        let mut name: Option<Vec<u8>> = None;
        for part in parts {
            let part = &*unquoted(part).ok_or(INVALID)?;
            if part.len() < 5 || !part[..5].eq_ignore_ascii_case(b"name=") {
                return Err(CommandError::of_parts(&[b"ERR Invalid metadata value given: ", part]));
            }
            if name.is_some() {
                let text = "ERR Invalid metadata value, name argument was given multiple times";
                return Err(CommandError::of(text));
            }
            name = Some(part[5..].to_vec());
        }
        let name = name.ok_or(CommandError::of("ERR Library name was not given"))?;
        let name = checked_name(&name)?;
        if !engine.eq_ignore_ascii_case(b"lua") {
            return Err(CommandError::of_parts(&[b"ERR Engine '", &engine, b"' not found"]));
        }
        Ok(LibraryHeader { name, engine, bytes: line.len() })
    }
}

/// The name of a library or of a function, if it may be one.
pub fn checked_name(name: &[u8]) -> Result<String, CommandError> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if name.is_empty() || !name.iter().all(is_word) {
        let text = "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one \
                    character long";
        return Err(CommandError::of(text));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// A part without its quotes, which may be around the whole or around its end. `None` where one is not closed
/// or something follows it.
fn unquoted(part: &[u8]) -> Option<Vec<u8>> {
    let Some(open) = part.iter().position(|byte| matches!(byte, b'"' | b'\'')) else {
        return Some(part.to_vec());
    };
    let close = part[open + 1..].iter().position(|byte| *byte == part[open])? + open + 1;
    (close + 1 == part.len()).then(|| [&part[..open], &part[open + 1..close]].concat())
}

fn first_line(code: &[u8]) -> Option<&[u8]> {
    code.iter().position(|byte| *byte == b'\n').map(|end| &code[..end])
}

fn parts_of(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Flags, LibraryHeader, ScriptHeader};

    #[test]
    fn a_script_may_have_a_header() {
        let flags = |body: &str| ScriptHeader::of(body.as_bytes()).map(|header| header.flags);
        assert_eq!(flags("return 1"), Ok(None));
        assert_eq!(flags("#!lua\nreturn 1"), Ok(Some(Flags(0))));
        assert_eq!(flags("#!lua flags=\nreturn 1"), Ok(Some(Flags(0))));
        let both = Flags(Flags::NO_WRITES.0 | Flags::ALLOW_STALE.0);
        assert_eq!(flags("#!lua flags=no-writes,allow-stale\nreturn 1"), Ok(Some(both)));
        let error = |body: &str| flags(body).expect_err("refused").text().into_owned();
        assert_eq!(error("#!lua"), "ERR Invalid script shebang");
        assert_eq!(error("#!not-lua\n"), "ERR Unexpected engine in script shebang: #!not-lua");
        assert_eq!(error("#!lua badger=data\n"), "ERR Unknown lua shebang option: badger=data");
        assert_eq!(error("#!lua flags=bad\n"), "ERR Unexpected flag in script shebang: bad");
    }

    #[test]
    fn a_library_has_a_header_with_its_name() {
        let header = LibraryHeader::of(b"#!LUA name=one\n").expect("a header");
        assert_eq!((&*header.name, header.bytes), ("one", 14));
        for quoted in ["#!lua name=\"one\"\n", "#!lua 'name=one'\n"] {
            assert_eq!(LibraryHeader::of(quoted.as_bytes()).expect("a header").name, "one");
        }
        let error = |code: &str| LibraryHeader::of(code.as_bytes()).expect_err("refused").text().into_owned();
        assert_eq!(error("return 1"), "ERR Missing library metadata");
        assert_eq!(error("#!lua name=a"), "ERR Invalid library metadata");
        assert_eq!(error("#!lua name=\"a\n"), "ERR Invalid library metadata");
        assert_eq!(error("#!lua name=\"a\"b\n"), "ERR Invalid library metadata");
        assert_eq!(error("#!lua\n"), "ERR Library name was not given");
        assert_eq!(
            error("#!lua name=a name=b\n"),
            "ERR Invalid metadata value, name argument was given multiple times"
        );
        assert_eq!(error("#!lua foo=bar\n"), "ERR Invalid metadata value given: foo=bar");
        assert_eq!(error("#!bad name=a\n"), "ERR Engine 'bad' not found");
        assert!(error("#!lua name=a-b\n").starts_with("ERR Library names can only contain"));
    }
}
