//! Compiles the text of an expression.

use super::functions::Function;
use super::lexer::{ExprLexer, ExprToken, ExprTokenKind, unquoted};
use super::{Arithmetic, Comparison, Expression, Step};
use crate::error::{Kind, SearchError, text};
use engramdb_engine::hashing::HashMap;

/// The most parentheses, calls and negations in each other.
const NESTED_MAX: usize = 128;

/// The precedence of `&&`, `||` and `!`, and of comparisons.
const LOGICAL: u8 = 1;
const COMPARING: u8 = 2;

#[derive(Clone, Copy)]
enum Operator {
    And,
    Or,
    Comparison(Comparison),
    Arithmetic(Arithmetic),
}

struct Compiler<'t> {
    lexer: ExprLexer<'t>,
    /// The token that is not used yet.
    token: ExprToken<'t>,
    expression: Expression,
    /// The numbers of the properties.
    properties: HashMap<Vec<u8>, usize>,
    /// The values that are on the stack after the last step.
    height: usize,
    nested: usize,
    /// How many parentheses are open, and whether the last one is a call's.
    open: usize,
    in_call: bool,
}

pub fn parse(text: &[u8]) -> Result<Expression, SearchError> {
    let mut lexer = ExprLexer::new(text);
    let token = lexer.next();
    let expression = Expression { steps: Vec::new(), properties: Vec::new(), depth: 0 };
    let mut compiler = Compiler {
        lexer,
        token,
        expression,
        properties: HashMap::default(),
        height: 0,
        nested: 0,
        open: 0,
        in_call: false,
    };
    compiler.expression(LOGICAL)?;
    match compiler.token.kind {
        ExprTokenKind::End => Ok(compiler.expression),
        _ => Err(compiler.unexpected()),
    }
}

impl Compiler<'_> {
    /// An expression of operators of at least this precedence.
    fn expression(&mut self, least: u8) -> Result<(), SearchError> {
        self.operand()?;
        while let Some((precedence, operator)) =
            self.operator().filter(|(precedence, _)| *precedence >= least)
        {
            self.advance();
            let jump = match operator {
                Operator::And => Some(self.emit(Step::And(0))),
                Operator::Or => Some(self.emit(Step::Or(0))),
                _ => None,
            };
            self.expression(precedence + 1)?;
            self.emit(match operator {
                Operator::Comparison(comparison) => Step::Comparison(comparison),
                Operator::Arithmetic(operation) => Step::Arithmetic(operation),
                Operator::And | Operator::Or => Step::Boolean,
            });
            jump.into_iter().for_each(|jump| self.land(jump));
        }
        Ok(())
    }

    fn operator(&self) -> Option<(u8, Operator)> {
        let ExprTokenKind::Sign(sign) = self.token.kind else { return None };
        let compares = |comparison| (COMPARING, Operator::Comparison(comparison));
        Some(match sign {
            "&&" => (LOGICAL, Operator::And),
            "||" => (LOGICAL, Operator::Or),
            "==" => compares(Comparison::Equal),
            "!=" => compares(Comparison::Unequal),
            "<" => compares(Comparison::Less),
            "<=" => compares(Comparison::LessOrEqual),
            ">" => compares(Comparison::Greater),
            ">=" => compares(Comparison::GreaterOrEqual),
            "+" => (3, Operator::Arithmetic(Arithmetic::Add)),
            "-" => (3, Operator::Arithmetic(Arithmetic::Subtract)),
            "*" => (4, Operator::Arithmetic(Arithmetic::Multiply)),
            "/" => (4, Operator::Arithmetic(Arithmetic::Divide)),
            "%" => (4, Operator::Arithmetic(Arithmetic::Remainder)),
            "^" => (4, Operator::Arithmetic(Arithmetic::Power)),
            _ => return None,
        })
    }

    fn operand(&mut self) -> Result<(), SearchError> {
        let kind = self.token.kind;
        match kind {
            ExprTokenKind::Number(number) => self.push(Step::Number(number)),
            ExprTokenKind::Text(quoted) => self.push(Step::Text(unquoted(quoted).into())),
            ExprTokenKind::Property(name) => {
                let property = self.property(name);
                self.push(Step::Property(property));
            }
            ExprTokenKind::Symbol(name) => return self.symbol(name),
            ExprTokenKind::Sign("-") => {
                self.advance();
                let ExprTokenKind::Number(number) = self.token.kind else { return Err(self.unexpected()) };
                self.push(Step::Number(-number));
            }
            ExprTokenKind::Sign("!") => {
                return self.nested(|parser| {
                    parser.advance();
                    parser.expression(COMPARING)?;
                    parser.emit(Step::Not);
                    Ok(())
                });
            }
            ExprTokenKind::Sign("(") => {
                return self.nested(|parser| {
                    let outer = std::mem::take(&mut parser.in_call);
                    parser.open += 1;
                    parser.advance();
                    parser.expression(LOGICAL)?;
                    parser.close()?;
                    parser.in_call = outer;
                    Ok(())
                });
            }
            _ => return Err(self.unexpected()),
        }
        self.advance();
        Ok(())
    }

    /// A function's call, or NULL.
    fn symbol(&mut self, name: &[u8]) -> Result<(), SearchError> {
        self.advance();
        if self.token.kind == ExprTokenKind::Sign("(") {
            return self.nested(|parser| parser.call(name));
        }
        if name == b"NULL" {
            self.push(Step::Null);
            return Ok(());
        }
        let unknown = Kind::UnknownSymbol.of(name);
        let may_follow = match self.token.kind {
            ExprTokenKind::End => self.open == 0,
            ExprTokenKind::Sign(")") => self.open > 0,
            ExprTokenKind::Sign(",") => self.in_call,
            _ => self.operator().is_some(),
        };
        if may_follow {
            return Err(unknown);
        }
        let ExprToken { offset, near, .. } = self.token;
        Err(Kind::ExpressionSyntaxSymbol.with([
            offset.to_string().into(),
            text(near).into(),
            text(name).into(),
        ]))
    }

    /// The arguments of a function, and their parentheses.
    fn call(&mut self, name: &[u8]) -> Result<(), SearchError> {
        let outer = std::mem::replace(&mut self.in_call, true);
        self.open += 1;
        self.advance();
        let function = Function::of_name(name);
        let first_step = self.expression.steps.len();
        // The steps before which a condition or a branch of `case` ends.
        let mut jumps = Vec::new();
        let mut count = 0;
        // The list may begin with a comma.
        let mut is_first = self.token.kind != ExprTokenKind::Sign(",");
        while !(count == 0 && is_first && self.token.kind == ExprTokenKind::Sign(")")) {
            if !is_first {
                if self.token.kind != ExprTokenKind::Sign(",") {
                    break;
                }
                self.advance();
            }
            is_first = false;
            if function == Some(Function::Case) {
                self.branch(count, &mut jumps);
            }
            self.expression(LOGICAL)?;
            count += 1;
        }
        self.close()?;
        self.in_call = outer;
        let Some(function) = function else { return Err(Kind::UnknownFunction.of(name)) };
        function.check_count(count)?;
        self.finish_call(function, count, first_step, &jumps);
        Ok(())
    }

    /// Before an argument of `case`: decides whether it is evaluated.
    fn branch(&mut self, count: usize, jumps: &mut Vec<usize>) {
        match count {
            1 => jumps.push(self.emit(Step::Unless(0))),
            2 => {
                jumps.push(self.emit(Step::Go(0)));
                // One of the branches has the value.
                self.height -= 1;
                self.land(jumps[0]);
            }
            _ => {}
        }
    }

    fn finish_call(&mut self, function: Function, count: usize, first_step: usize, jumps: &[usize]) {
        match (function, &self.expression.steps[first_step..]) {
            (Function::Case, _) => self.land(jumps[1]),
            (Function::Exists, &[Step::Property(property)]) => {
                self.expression.steps[first_step] = Step::Exists(property);
            }
            _ => {
                self.emit(Step::Call(function, count));
            }
        }
    }

    fn close(&mut self) -> Result<(), SearchError> {
        if self.token.kind != ExprTokenKind::Sign(")") {
            return Err(self.unexpected());
        }
        self.open -= 1;
        self.advance();
        Ok(())
    }

    fn nested(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<(), SearchError>,
    ) -> Result<(), SearchError> {
        if self.nested == NESTED_MAX {
            return Err(self.unexpected());
        }
        self.nested += 1;
        parse(self)?;
        self.nested -= 1;
        Ok(())
    }

    fn property(&mut self, name: &[u8]) -> usize {
        if let Some(&property) = self.properties.get(name) {
            return property;
        }
        let property = self.expression.properties.len();
        self.expression.properties.push(name.to_vec());
        self.properties.insert(name.to_vec(), property);
        property
    }

    fn advance(&mut self) {
        self.token = self.lexer.next();
    }

    fn push(&mut self, step: Step) {
        self.emit(step);
    }

    /// Adds a step, and returns its number.
    fn emit(&mut self, step: Step) -> usize {
        match step {
            Step::Null | Step::Number(_) | Step::Text(_) | Step::Property(_) | Step::Exists(_) => {
                self.height += 1
            }
            Step::Arithmetic(_) | Step::Comparison(_) | Step::And(_) | Step::Or(_) | Step::Unless(_) => {
                self.height -= 1
            }
            Step::Call(_, count) => self.height = self.height + 1 - count,
            Step::Not | Step::Boolean | Step::Go(_) => {}
        }
        self.expression.depth = self.expression.depth.max(self.height);
        self.expression.steps.push(step);
        self.expression.steps.len() - 1
    }

    /// Lets a jump go to the next step.
    fn land(&mut self, jump: usize) {
        let next = self.expression.steps.len();
        match &mut self.expression.steps[jump] {
            Step::And(to) | Step::Or(to) | Step::Unless(to) | Step::Go(to) => *to = next,
            step => unreachable!("{step:?} is no jump"),
        }
    }

    fn unexpected(&self) -> SearchError {
        let ExprToken { offset, near, .. } = self.token;
        Kind::ExpressionSyntax.with([offset.to_string().into(), text(near).into()])
    }
}
