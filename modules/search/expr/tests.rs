use super::*;
use crate::error::ErrorStyle;
use std::sync::Arc;

struct Row(Vec<(&'static str, ExprValue<'static>)>, Vec<Vec<u8>>);

impl PropertyValues for Row {
    fn value(&self, property: usize) -> Option<ExprValue<'_>> {
        let name = std::str::from_utf8(&self.1[property]).expect("the tests' names");
        self.0.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone())
    }
}

fn text(text: &str) -> ExprValue<'static> {
    ExprValue::Text(Cow::Owned(text.as_bytes().to_vec()))
}

/// The result as a reply shows it, or the error.
fn result(expression: &str) -> String {
    let values = vec![
        ("n", ExprValue::Number(10.5)),
        ("t", text("Hello World")),
        ("e", text("")),
        ("g", text("1.5,2.5")),
        ("null", ExprValue::Null),
    ];
    let shown = |value: &ExprValue<'_>| -> String {
        match value {
            ExprValue::Null => "NULL".into(),
            ExprValue::List(list) => {
                let parts: Vec<String> =
                    list.iter().map(|part| String::from_utf8_lossy(&part.to_text()).into_owned()).collect();
                format!("[{}]", parts.join("|"))
            }
            value => String::from_utf8_lossy(&value.to_text()).into_owned(),
        }
    };
    let evaluated = Expression::parse(expression.as_bytes()).and_then(|expression| {
        let row = Row(values, expression.properties().to_vec());
        expression.evaluate(&row).map(|value| shown(&value))
    });
    evaluated.unwrap_or_else(|error| error.in_style(ErrorStyle::Plain).to_string())
}

/// Expressions with the answers of RediSearch 2.10.5, one a line, separated by ` => `. Lines without are
/// remarks.
const ANSWERS: &str = include_str!("answers.txt");

#[test]
fn results_and_errors_are_those_of_redisearch() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (expression, wanted) in ANSWERS.lines().filter_map(|line| line.split_once(" => ")) {
        let unescape = |text: &str| text.replace("\\n", "\n").replace("\\t", "\t");
        let found = result(expression);
        count += 1;
        if found != unescape(wanted) {
            wrong.push(format!("{expression}: {found}, not {wanted}"));
        }
    }
    assert!(count > 200, "{count}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_needed_branch_of_case_is_evaluated() {
    assert_eq!(result("case(@n > 1, \"a\", 1 + \"x\")"), "a");
    assert_eq!(result("case(@e, 1 + \"x\", case(1, 7, 8)) + 1"), "8");
    assert_eq!(result("upper(case(0, \"a\", \"b\"))"), "B");
    assert_eq!(result("case(1, 2)"), "Invalid arguments for function 'case'");
}

#[test]
fn the_right_side_is_evaluated_where_the_left_does_not_decide() {
    assert_eq!(result("0 && @nope"), "0");
    assert_eq!(result("1 || @nope"), "1");
    assert_eq!(result("1 && @nope"), "nope: has no value, consider using EXISTS if applicable");
    assert_eq!(result("exists(@nope) || !exists(@n)"), "0");
}

#[test]
fn an_expression_of_any_length_needs_little_stack_and_a_deep_one_is_refused() {
    let long = vec!["1"; 200_000].join(" + ");
    assert_eq!(result(&long), "200000");
    let chain = vec!["(1)"; 50_000].join(" && ");
    assert_eq!(result(&chain), "1");
    let arguments = format!("format(\"%s\", {})", vec!["@n"; 20_000].join(","));
    assert_eq!(result(&arguments), "10.5");
    for (open, close) in [("(", ")"), ("!", ""), ("upper(", ")"), ("1 + (", ")")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        assert!(result(&deep).starts_with("Syntax error at offset"), "{open}");
    }
    let names: Vec<String> = (0..20_000).map(|name| format!("@p{name}")).collect();
    let expression = Expression::parse(names.join("+").as_bytes()).expect("valid");
    assert_eq!(expression.properties().len(), 20_000);
}

#[test]
fn values_sort_by_type_and_number() {
    let sorted =
        [ExprValue::Null, ExprValue::Number(-1.0), ExprValue::Number(2.0), text("10"), text("9x"), text("a")];
    for (place, value) in sorted.iter().enumerate() {
        for (other, right) in sorted.iter().enumerate() {
            let order = compare_values(value, right);
            assert_eq!(order, place.cmp(&other), "{value:?} {right:?}");
        }
    }
    let several =
        ExprValue::Several(Arc::new(SeveralValues { seen: ExprValue::Number(3.0), shown: text("[3]") }));
    assert_eq!(compare_values(&several, &ExprValue::Number(3.0)), Ordering::Equal);
    assert_eq!((several.number(), several.text(), several.is_true()), (Some(3.0), None, true));
}

#[test]
fn numbers_show_as_redisearch_shows_them() {
    for (number, shown) in [
        (1e18, "1000000000000000000"),
        (9.3e18, "9.3e+18"),
        (-9_223_372_036_854_775_808.0, "-9223372036854775808"),
        (9_223_372_036_854_775_808.0, "9.22337203685e+18"),
        (-0.0, "0"),
        (1.0 / 3.0, "0.333333333333"),
        (f64::NEG_INFINITY, "-inf"),
        (f64::NAN, "nan"),
        (-f64::NAN, "-nan"),
    ] {
        assert_eq!(&*number_text(number), shown);
    }
}
