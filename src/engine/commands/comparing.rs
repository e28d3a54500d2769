//! Strings that are compared before they are written or deleted, and strings that are set together: commands
//! of Redis 8.4 and Valkey 9.

use super::expiry_option::ExpiryOption;
use super::strings::set_with_expiry;
use super::{delete_key, exists, expiry_of};
use crate::command::{
    Args, Command, CommandError, OptionWords, Outcome, Reply, acl, flag, integer, read, write,
};
use crate::effect::Effect;
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::StringRef;
use std::fmt::Write;
use twox_hash::XxHash3_64;

pub const COMMANDS: &[Command] = &[
    write("DELEX", "key [IFEQ value|IFNE value|IFDEQ digest|IFDNE digest]", delex)
        .group("string")
        .acl(acl::STRING)
        .flags(flag::FAST | flag::FREES)
        .event("del")
        .access(&["RW delete"])
        .docs("8.4.0", "O(1), or O(N) for N bytes of which a digest is made", "Deletes a string that fits a condition."),
    write("DELIFEQ", "key value", delifeq)
        .group("string")
        .acl(acl::STRING)
        .flags(flag::FREES)
        .event("del")
        .access(&["RW access delete"])
        .docs("9.0.0", "O(1)", "Deletes a string that is equal to a value."),
    read("DIGEST", "key", digest).group("string").acl(acl::STRING).flags(flag::FAST).docs(
        "8.4.0",
        "O(N) for N bytes of the string",
        "Returns the XXH3 digest of a string, as 16 hexadecimal digits.",
    ),
    write("MSETEX", "numkeys (key value)+ [NX|XX] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]", msetex)
        .group("string")
        .acl(acl::STRING)
        .flags(flag::DENY_OOM)
        .keys(keys_of_msetex)
        .event("set")
        .access(&["OW update"])
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .docs("8.4.0", "O(N) for N keys", "Sets several strings with one expiry, if all or none of the keys exist."),
];

/// What the present string must be, for a write to take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringComparison<'a> {
    Equal(&'a [u8]),
    NotEqual(&'a [u8]),
    /// A digest in hexadecimal digits.
    DigestEqual(&'a [u8]),
    DigestNotEqual(&'a [u8]),
}

impl<'a> StringComparison<'a> {
    /// Takes the condition if the next words are one.
    pub fn take(options: &mut OptionWords<'a>) -> Result<Option<StringComparison<'a>>, CommandError> {
        type Form = for<'w> fn(&'w [u8]) -> StringComparison<'w>;
        const FORMS: [(&str, Form); 4] = [
            ("IFEQ", |word| StringComparison::Equal(word)),
            ("IFNE", |word| StringComparison::NotEqual(word)),
            ("IFDEQ", |word| StringComparison::DigestEqual(word)),
            ("IFDNE", |word| StringComparison::DigestNotEqual(word)),
        ];
        let form = FORMS.into_iter().find(|(keyword, _)| options.left() > 1 && options.take(keyword));
        match form {
            Some((_, form)) => Ok(Some(form(options.word()?))),
            None => Ok(None),
        }
    }

    /// Whether the present string fits; an absent one differs from everything.
    pub fn fits(self, string: Option<StringRef<'_>>) -> Result<bool, CommandError> {
        let (is_equal, wanted) = match (self, string) {
            (StringComparison::Equal(_) | StringComparison::DigestEqual(_), None) => return Ok(false),
            (StringComparison::NotEqual(_) | StringComparison::DigestNotEqual(_), None) => return Ok(true),
            (StringComparison::Equal(value), Some(string)) => {
                (string.with_bytes(|bytes| bytes == value), true)
            }
            (StringComparison::NotEqual(value), Some(string)) => {
                (string.with_bytes(|bytes| bytes == value), false)
            }
            (StringComparison::DigestEqual(digest), Some(string)) => (has_digest(string, digest)?, true),
            (StringComparison::DigestNotEqual(digest), Some(string)) => (has_digest(string, digest)?, false),
        };
        Ok(is_equal == wanted)
    }
}

fn has_digest(string: StringRef<'_>, digest: &[u8]) -> Result<bool, CommandError> {
    const DIGITS: usize = 16;
    if digest.len() != DIGITS {
        return Err(CommandError::of("ERR must be exactly 16 hexadecimal characters"));
    }
    Ok(digest_of(string).as_bytes().eq_ignore_ascii_case(digest))
}

fn digest_of(string: StringRef<'_>) -> String {
    let mut text = String::with_capacity(16);
    let digest = string.with_bytes(XxHash3_64::oneshot);
    write!(text, "{digest:016x}").expect("strings grow");
    text
}

fn delex(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let is_deleted = match args.len() {
        2 => delete_key(tx, key),
        4 => {
            let wanted = StringComparison::take(&mut args.options(2))?
                .ok_or(CommandError::of("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"))?;
            let fits = tx.read(|view| {
                let not_string =
                    |_| CommandError::of("ERR Key should be of string type if conditions are specified");
                let string = view.string(key).map_err(not_string)?;
                Ok(string.is_some() && wanted.fits(string)?)
            })?;
            fits && delete_key(tx, key)
        }
        _ => return Err(CommandError::wrong_arity("delex")),
    };
    reply.integer(i64::from(is_deleted));
    Ok(())
}

fn delifeq(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, value) = (args.word(1), args.word(2));
    let fits = tx.read(|view| StringComparison::Equal(value).fits(view.string(key)?))?;
    reply.integer(i64::from(fits && delete_key(tx, key)));
    Ok(())
}

fn digest(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    match view.string(args.word(1))? {
        Some(string) => reply.bulk(digest_of(string).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

fn keys_of_msetex(args: Args<'_>) -> Result<Vec<usize>, CommandError> {
    let count = pairs_of_msetex(args)?;
    Ok((0..count).map(|pair| 2 + 2 * pair).collect())
}

/// The number of keys, all of which are there.
fn pairs_of_msetex(args: Args<'_>) -> Result<usize, CommandError> {
    let count = integer(args.word(1)).ok().filter(|count| (1..=i64::from(i32::MAX)).contains(count));
    let count = count.ok_or(CommandError::of("ERR invalid numkeys value"))? as usize;
    if args.len() < 2 + 2 * count {
        return Err(CommandError::of("ERR wrong number of key-value pairs"));
    }
    Ok(count)
}

fn msetex(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let pairs = &args.from(2)[..2 * pairs_of_msetex(args)?];
    let (mut wanted, mut keep_expiry, mut expiry) = (None, false, None);
    let mut options = args.options(2 + pairs.len());
    while !options.is_done() {
        if wanted != Some(true) && options.take("NX") {
            wanted = Some(false);
        } else if wanted != Some(false) && options.take("XX") {
            wanted = Some(true);
        } else if options.take("KEEPTTL") {
            keep_expiry = true;
        } else if !ExpiryOption::take(&mut expiry, &mut options)? {
            return Err(CommandError::SYNTAX);
        }
        if keep_expiry && expiry.is_some() {
            return Err(CommandError::SYNTAX);
        }
    }
    let expires_at_ms = expiry.map(|expiry| expiry.at_ms(tx.now_ms(), "msetex")).transpose()?;
    let keys = || pairs.iter().step_by(2);
    let fits = wanted.is_none_or(|wanted| tx.read(|view| keys().all(|key| exists(view, key) == wanted)));
    if fits {
        for pair in pairs.chunks_exact(2) {
            let [key, value] = [pair[0], pair[1]];
            tx.event("set");
            match expires_at_ms {
                Some(expires_at_ms) => set_with_expiry(tx, key, value, expires_at_ms),
                None => {
                    let expires_at_ms = if keep_expiry { tx.read(|view| expiry_of(view, key)) } else { 0 };
                    tx.apply(Effect::StringSet { key, value, expires_at_ms });
                }
            }
        }
    }
    reply.integer(i64::from(fits));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_redis_s() {
        let digest = |text: &'static str| digest_of(StringRef::Bytes(text.as_bytes()));
        // Of the manual of DIGEST.
        assert_eq!(digest("Hello world"), "b6acb9d84a38ff74");
        assert_eq!(digest(""), "2d06800538d394c2");
    }
}
