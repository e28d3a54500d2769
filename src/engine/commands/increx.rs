//! INCREX of Redis 8.8: a counter with bounds, whose expiry is set with it.

use super::expiry_option::ExpiryOption;
use super::string_of;
use crate::command::{Args, Command, CommandError, Outcome, Reply, acl, flag, integer, write};
use crate::store::tx::Tx;
use crate::types::{add_decimals, parse_double};

pub const COMMANDS: &[Command] = &[write(
    "INCREX",
    "key [BYFLOAT increment|BYINT increment] [LBOUND bound] [UBOUND bound] [SATURATE] [EX seconds|PX milliseconds|EXAT \
     unix-time-seconds|PXAT unix-time-milliseconds|PERSIST] [ENX]",
    increx,
)
.group("string")
.acl(acl::STRING)
.flags(flag::DENY_OOM | flag::FAST)
.event("incrby")
.access(&["RW access update"])
.docs("8.8.0", "O(1)", "Adds to a number within bounds, and sets its expiry.")];

struct Counting<'a> {
    /// Decimal numbers, where BYFLOAT is given; integers otherwise.
    is_float: bool,
    by: &'a [u8],
    lower: Option<&'a [u8]>,
    upper: Option<&'a [u8]>,
    saturates: bool,
    expiry: Option<ExpiryOption<'a>>,
    persists: bool,
    /// The expiry is set only where there is none.
    only_new_expiry: bool,
}

impl<'a> Counting<'a> {
    fn parse(args: Args<'a>) -> Result<Counting<'a>, CommandError> {
        let mut counting = Counting {
            is_float: false,
            by: b"1",
            lower: None,
            upper: None,
            saturates: false,
            expiry: None,
            persists: false,
            only_new_expiry: false,
        };
        let (mut options, mut has_increment) = (args.options(2), false);
        while !options.is_done() {
            let is_float = options.take("BYFLOAT");
            if is_float || options.take("BYINT") {
                if std::mem::replace(&mut has_increment, true) {
                    return Err(CommandError::SYNTAX);
                }
                (counting.is_float, counting.by) = (is_float, options.word()?);
            } else if options.take("LBOUND") {
                counting.lower = Some(options.word()?);
            } else if options.take("UBOUND") {
                counting.upper = Some(options.word()?);
            } else if options.take("SATURATE") {
                counting.saturates = true;
            } else if options.take("ENX") {
                counting.only_new_expiry = true;
            } else if options.take("PERSIST") {
                counting.persists = true;
            } else if !ExpiryOption::take(&mut counting.expiry, &mut options)? {
                return Err(CommandError::SYNTAX);
            }
        }
        let contradicts = counting.persists && counting.expiry.is_some();
        if contradicts || (counting.only_new_expiry && counting.expiry.is_none()) {
            return Err(CommandError::SYNTAX);
        }
        Ok(counting)
    }

    /// The new integer; `None` if it is out of bounds.
    fn count(&self, old: i64) -> Result<Option<i64>, CommandError> {
        let bound = |word: Option<&[u8]>, default: i64| word.map_or(Ok(default), integer);
        let (lower, upper) = (bound(self.lower, i64::MIN)?, bound(self.upper, i64::MAX)?);
        if lower > upper {
            return Err(CommandError::of("ERR LBOUND can't be greater than UBOUND"));
        }
        let sum = i128::from(old) + i128::from(integer(self.by)?);
        let bounded = sum.clamp(lower.into(), upper.into());
        Ok((self.saturates || bounded == sum).then_some(bounded as i64))
    }

    /// The same for decimal numbers, as texts.
    fn count_decimals(&self, old: &str) -> Result<Option<String>, CommandError> {
        let number = |word: &[u8]| parse_double(word).ok_or(CommandError::NOT_FLOAT);
        let number_of = |word: Option<&[u8]>, default: f64| word.map_or(Ok(default), number);
        let lower = number_of(self.lower, f64::NEG_INFINITY)?;
        let upper = number_of(self.upper, f64::INFINITY)?;
        if lower > upper {
            return Err(CommandError::of("ERR LBOUND can't be greater than UBOUND"));
        }
        if number(self.by)?.is_infinite() {
            return Err(CommandError::of("ERR increment would produce NaN or Infinity"));
        }
        let Some(sum) = add_decimals(old.as_bytes(), self.by) else { return Ok(None) };
        let value = number(sum.as_bytes())?;
        let bound = match value {
            _ if value < lower => self.lower,
            _ if value > upper => self.upper,
            _ => return Ok(Some(sum)),
        };
        Ok(bound.filter(|_| self.saturates).and_then(|bound| add_decimals(bound, b"0")))
    }
}

fn increx(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, counting) = (args.word(1), Counting::parse(args)?);
    let given_expiry = counting.expiry.map(|expiry| expiry.at_ms(tx.now_ms(), "increx")).transpose()?;
    let (old, expires_at_ms) = tx.read(|view| match view.entry(key) {
        Some(entry) => {
            let old = String::from_utf8(string_of(entry)?.to_bytes().into_owned());
            Ok((old.map_err(|_| CommandError::NOT_INTEGER)?, entry.expires_at_ms()))
        }
        None => Ok(("0".to_owned(), 0)),
    })?;
    let new = if counting.is_float {
        parse_double(old.as_bytes()).ok_or(CommandError::NOT_FLOAT)?;
        counting.count_decimals(&old)?
    } else {
        counting.count(integer(old.as_bytes())?)?.map(|new| new.to_string())
    };
    if let Some(new) = &new {
        let expires_at_ms = match given_expiry {
            Some(_) if counting.only_new_expiry && expires_at_ms != 0 => expires_at_ms,
            Some(at_ms) => at_ms,
            None if counting.persists => 0,
            None => expires_at_ms,
        };
        if counting.is_float {
            tx.event("incrbyfloat");
        }
        super::strings::set_with_expiry_if(tx, key, new.as_bytes(), expires_at_ms, given_expiry.is_some());
    }
    let negated = old.strip_prefix('-').map_or_else(|| format!("-{old}"), str::to_owned);
    let shown = new.as_deref().unwrap_or(&old);
    let applied = new.as_ref().and_then(|new| add_decimals(new.as_bytes(), negated.as_bytes()));
    reply.array(2);
    for number in [shown, applied.as_deref().unwrap_or("0")] {
        match parse_double(number.as_bytes()) {
            Some(value) if counting.is_float && reply.is_resp3() => reply.double(value),
            _ if counting.is_float => reply.bulk(number.as_bytes()),
            _ => reply.integer(integer(number.as_bytes()).unwrap_or(0)),
        }
    }
    Ok(())
}
