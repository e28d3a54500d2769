//! Expressions over the properties of a row: APPLY and FILTER of FT.AGGREGATE, FILTER of FT.CREATE.
//!
//! The language is RediSearch's:
//!
//! ```text
//! expression := "!" expression | operand { operator expression }
//! operand    := number | "-" number | "text" | 'text' | @property | NULL | function "(" arguments ")"
//!             | "(" expression ")"
//! operators, the loosest first: && || and !; == != < <= > >=; + -; * / % ^
//! ```
//!
//! Operators of one precedence associate to the left, so `1 || 0 && 0` is 0 and `2 * 3 ^ 2` is 36. `!a == b`
//! is `!(a == b)`. A sign before digits belongs to the number: `1-2` is an error, `1 - 2` is not. Other
//! punctuation is skipped.
//!
//! An expression is compiled to steps of a stack machine. So neither evaluating nor freeing it recurses,
//! however long it is. Only parsing nested parentheses does, and their depth is bounded.

mod calendar;
mod functions;
mod lexer;
mod parser;
mod times;
mod value;

#[cfg(test)]
mod tests;

pub use value::{ExprValue, SeveralValues, compare_values, number_text, parse_number};

use crate::error::{Kind, SearchError};
use functions::Function;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A compiled expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    steps: Vec<Step>,
    /// The names of the properties, each once.
    properties: Vec<Vec<u8>>,
    /// The most values that are on the stack at once.
    depth: usize,
}

/// The values that an expression is evaluated with.
pub trait PropertyValues {
    /// The value of the property with this number in `Expression::properties`; `None` if it has none.
    fn value(&self, property: usize) -> Option<ExprValue<'_>>;

    /// Counts work that evaluating does: steps, and the sizes of what functions and comparisons read. Fails
    /// if no more is to be done.
    #[inline]
    fn spend(&self, _work: usize) -> Result<(), SearchError> {
        Ok(())
    }

    /// The terms of the query that the row's document matched, for `matched_terms`.
    fn matched_terms(&self) -> Option<ExprValue<'_>> {
        None
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Null,
    Number(f64),
    Text(Box<[u8]>),
    Property(usize),
    /// 1 if the property has a value, otherwise 0.
    Exists(usize),
    Arithmetic(Arithmetic),
    Comparison(Comparison),
    Not,
    /// Replaces the value by 1 or 0.
    Boolean,
    /// If the value is false, replaces it by 0 and goes to the step of this number; otherwise removes it.
    And(usize),
    /// If the value is true, replaces it by 1 and goes to the step of this number; otherwise removes it.
    Or(usize),
    /// Removes the value, and goes to the step of this number if it is false.
    Unless(usize),
    Go(usize),
    /// Replaces the last values, of this number, by the function's result.
    Call(Function, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The values that are kept without an allocation; few expressions need more.
const SHALLOW: usize = 8;
/// Work that is counted together.
const COUNTED_WORK: usize = 1024;

impl Expression {
    /// Fails with RediSearch's text if the text is no expression.
    pub fn parse(text: &[u8]) -> Result<Expression, SearchError> {
        parser::parse(text)
    }

    /// The most work of evaluating it, but for the sizes of values.
    pub fn work(&self) -> usize {
        self.steps.len()
    }

    /// The names of the properties that the expression reads, each once, without the `@`.
    pub fn properties(&self) -> &[Vec<u8>] {
        &self.properties
    }

    /// Fails with RediSearch's text if a property has no value, or a value has the wrong type.
    pub fn evaluate<'r>(&'r self, row: &'r impl PropertyValues) -> Result<ExprValue<'r>, SearchError> {
        if self.depth <= SHALLOW {
            let mut values: [ExprValue<'r>; SHALLOW] = std::array::from_fn(|_| ExprValue::Null);
            return self.run(row, &mut values);
        }
        self.run(row, &mut vec![ExprValue::Null; self.depth])
    }

    fn run<'r>(
        &'r self,
        row: &'r impl PropertyValues,
        stack: &mut [ExprValue<'r>],
    ) -> Result<ExprValue<'r>, SearchError> {
        // The number of values on the stack, and of the next step.
        let (mut height, mut next) = (0, 0);
        let mut work = 0;
        while let Some(step) = self.steps.get(next) {
            next += 1;
            work += 1 + step.sizes(&stack[..height]);
            if work > COUNTED_WORK {
                row.spend(std::mem::take(&mut work))?;
            }
            let pushed = match step {
                Step::Null => ExprValue::Null,
                Step::Number(number) => ExprValue::Number(*number),
                Step::Text(text) => ExprValue::Text(Cow::Borrowed(text)),
                Step::Property(property) => self.property(row, *property)?,
                Step::Exists(property) => ExprValue::of_bool(row.value(*property).is_some()),
                Step::Arithmetic(operation) => {
                    height -= 2;
                    ExprValue::Number(operation.of(&stack[height], &stack[height + 1])?)
                }
                Step::Comparison(comparison) => {
                    height -= 2;
                    ExprValue::of_bool(comparison.of(&stack[height], &stack[height + 1])?)
                }
                Step::Not | Step::Boolean => {
                    height -= 1;
                    ExprValue::of_bool(stack[height].is_true() != (*step == Step::Not))
                }
                Step::And(to) | Step::Or(to) => {
                    height -= 1;
                    let decides = matches!(step, Step::Or(_));
                    if stack[height].is_true() != decides {
                        continue;
                    }
                    next = *to;
                    ExprValue::of_bool(decides)
                }
                Step::Unless(to) => {
                    height -= 1;
                    if !stack[height].is_true() {
                        next = *to;
                    }
                    continue;
                }
                Step::Go(to) => {
                    next = *to;
                    continue;
                }
                Step::Call(Function::MatchedTerms, count) => {
                    height -= count;
                    row.matched_terms().unwrap_or(ExprValue::Null)
                }
                Step::Call(function, count) => {
                    height -= count;
                    function.call(&mut stack[height..height + count])?
                }
            };
            stack[height] = pushed;
            height += 1;
        }
        row.spend(work)?;
        debug_assert_eq!(height, 1, "an expression has one value");
        Ok(std::mem::take(&mut stack[0]))
    }

    fn property<'r>(
        &'r self,
        row: &'r impl PropertyValues,
        property: usize,
    ) -> Result<ExprValue<'r>, SearchError> {
        row.value(property).ok_or_else(|| Kind::NoPropertyValue.of(&self.properties[property]))
    }
}

impl Step {
    /// The sizes of long texts and lists that the step reads, as work.
    #[inline]
    fn sizes(&self, stack: &[ExprValue<'_>]) -> usize {
        let count = match self {
            Step::Arithmetic(_) | Step::Comparison(_) => 2,
            Step::Call(_, count) => *count,
            _ => return 0,
        };
        stack[stack.len() - count..].iter().map(ExprValue::size).sum()
    }
}

impl Arithmetic {
    fn of(self, left: &ExprValue<'_>, right: &ExprValue<'_>) -> Result<f64, SearchError> {
        let (Some(left), Some(right)) = (left.number(), right.number()) else {
            return Err(Kind::NotNumeric.error());
        };
        Ok(match self {
            Arithmetic::Add => left + right,
            Arithmetic::Subtract => left - right,
            Arithmetic::Multiply => left * right,
            Arithmetic::Divide if right == 0.0 => f64::NAN,
            Arithmetic::Divide => left / right,
            Arithmetic::Remainder => remainder(left, right),
            Arithmetic::Power => left.powf(right),
        })
    }
}

/// The remainder of the integer parts; NaN if the divisor has none.
fn remainder(left: f64, right: f64) -> f64 {
    // As C converts on this machine: what does not fit is the smallest integer.
    let whole =
        |number: f64| if number.abs() < 9_223_372_036_854_775_808.0 { number as i64 } else { i64::MIN };
    match whole(right) {
        0 => f64::NAN,
        divisor => whole(left).wrapping_rem(divisor) as f64,
    }
}

impl Comparison {
    fn of(self, left: &ExprValue<'_>, right: &ExprValue<'_>) -> Result<bool, SearchError> {
        match self {
            Comparison::Equal => return Ok(value::are_equal(left, right)),
            Comparison::Unequal => return Ok(!value::are_equal(left, right)),
            _ => {}
        }
        let order = value::order_or_fail(left, right)?;
        Ok(match self {
            Comparison::Less => order == Ordering::Less,
            Comparison::LessOrEqual => order != Ordering::Greater,
            Comparison::Greater => order == Ordering::Greater,
            _ => order != Ordering::Less,
        })
    }
}

/// Parses any bytes as an expression, and evaluates it with values of each type. Errors are fine, panics are
/// not.
pub fn fuzz_expression(bytes: &[u8]) {
    struct Values(usize);
    impl PropertyValues for Values {
        fn value(&self, property: usize) -> Option<ExprValue<'_>> {
            match (self.0 + property) % 5 {
                0 => None,
                1 => Some(ExprValue::Null),
                2 => Some(ExprValue::Number(1.5e9)),
                3 => Some(ExprValue::Text(b"12,13".into())),
                _ => Some(ExprValue::List([ExprValue::Text(b"a".into()), ExprValue::Number(1.0)].into())),
            }
        }
    }
    if let Ok(expression) = Expression::parse(bytes) {
        (0..5).for_each(|first| _ = expression.evaluate(&Values(first)));
    }
}
