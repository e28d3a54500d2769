//! The expiry options that several commands share: EX, PX, EXAT and PXAT with a positive number.

use crate::command::{CommandError, OptionWords, integer};

/// An expiry as the client wrote it.
#[derive(Clone, Copy, Debug)]
pub struct ExpiryOption<'a> {
    word: &'a [u8],
    form: &'static Form,
}

#[derive(Debug)]
struct Form {
    keyword: &'static str,
    /// Milliseconds in its unit.
    unit_ms: i64,
    from_now: bool,
}

const FORMS: &[Form] = &[
    Form { keyword: "EX", unit_ms: 1000, from_now: true },
    Form { keyword: "PX", unit_ms: 1, from_now: true },
    Form { keyword: "EXAT", unit_ms: 1000, from_now: false },
    Form { keyword: "PXAT", unit_ms: 1, from_now: false },
];

impl<'a> ExpiryOption<'a> {
    /// `EX word`.
    pub fn seconds(word: &'a [u8]) -> ExpiryOption<'a> {
        ExpiryOption { word, form: &FORMS[0] }
    }

    /// `PX word`.
    pub fn milliseconds(word: &'a [u8]) -> ExpiryOption<'a> {
        ExpiryOption { word, form: &FORMS[1] }
    }

    /// Takes an expiry option into `found` if the next word is one. As in Redis, a second option of another
    /// form is a syntax error, and one of the same form replaces the first.
    pub fn take(
        found: &mut Option<ExpiryOption<'a>>,
        options: &mut OptionWords<'a>,
    ) -> Result<bool, CommandError> {
        let Some(form) = FORMS.iter().find(|form| options.take(form.keyword)) else { return Ok(false) };
        if found.is_some_and(|before| before.form.keyword != form.keyword) {
            return Err(CommandError::SYNTAX);
        }
        *found = Some(ExpiryOption { word: options.word()?, form });
        Ok(true)
    }

    /// Milliseconds since the epoch; may be in the past. `command` is the name in the error.
    pub fn at_ms(&self, now_ms: u64, command: &str) -> Result<u64, CommandError> {
        let number = integer(self.word)?;
        let start_ms = if self.form.from_now { now_ms as i64 } else { 0 };
        let at_ms = number.checked_mul(self.form.unit_ms).and_then(|ms| ms.checked_add(start_ms));
        match at_ms {
            Some(at_ms) if number > 0 => Ok(at_ms as u64),
            _ => Err(CommandError::invalid_expire_time(command)),
        }
    }
}
