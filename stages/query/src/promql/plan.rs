//! From query text to a plan of our own: parsed, checked, every name of a function or operator settled, so that evaluation knows no parser.

use std::time::{Duration, SystemTime};

use promql_parser::parser::{self, AtModifier, BinModifier, Call, Expr, LabelModifier, Offset, VectorMatchCardinality, VectorSelector};

use super::aggregate::Aggregation;
use super::binary::Operator;
use super::durations;
use super::functions::Function;
use super::gate;
use super::over_time::RangeFunction;
use super::places::{Place, Places};
use super::selector::Selector;
use crate::error::{self, QueryError};

/// Moves a selector's times: `@` first, then `offset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shift {
    pub(crate) at: Option<At>,
    pub(crate) offset_ms: i64,
}

/// A fixed time, Unix milliseconds, or an edge of the query's range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum At {
    Time(i64),
    Start,
    End,
}

/// Where a range vector comes from.
#[derive(Clone, Debug)]
pub(crate) enum RangeInput {
    /// Stored points.
    Points(Selector),
    /// An expression evaluated every `step_ms` (none: the default).
    Subquery(Box<Node>, Option<i64>),
}

/// A range vector.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) input: RangeInput,
    pub(crate) shift: Shift,
    pub(crate) range_ms: i64,
}

/// How the series of two sides find each other.
#[derive(Clone, Debug)]
pub(crate) struct Matching {
    /// `on` (true) or `ignoring`.
    pub(crate) on: bool,
    pub(crate) labels: Vec<String>,
    pub(crate) card: Cardinality,
    /// Labels of the "one" side to take over.
    pub(crate) include: Vec<String>,
}

/// Which side may have several series per match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cardinality {
    OneToOne,
    ManyToOne,
    OneToMany,
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Number(f64),
    Text(String),
    Instant { selector: Selector, shift: Shift, as_time: bool },
    Range(Range),
    OverTime { function: RangeFunction, arguments: Vec<Node>, range: Range, place: Place },
    Call { function: Function, arguments: Vec<Node>, place: Place },
    Aggregate { aggregation: Aggregation, parameter: Option<Box<Node>>, input: Box<Node>, by: bool, labels: Vec<String>, place: Place },
    Binary { operator: Operator, returns_bool: bool, matching: Matching, left: Box<Node>, right: Box<Node> },
    Negate(Box<Node>),
}

/// Parses and checks a query; what Prometheus keeps behind a feature flag is refused unless `experimental`.
/// `of` says what `step()` and `range()` mean in durations.
pub(crate) fn plan(query: &str, experimental: bool, of: durations::Query) -> Result<Node, QueryError> {
    let expr = parse(&durations::plain(query, of)?)?;
    gate::check(&expr, experimental)?;
    lower(&expr, &mut Places::of(query))
}

/// Parses a query only.
pub(crate) fn parse(query: &str) -> Result<Expr, QueryError> {
    parser::parse(&as_parser_reads(query))
        .map_err(|text| QueryError::bad(error::PARSE, format!("invalid parameter \"query\": parse error: {text}")))
}

/// The query with numbers like `1_000` and raw strings (in backquotes, which the parser searches for escapes) as the parser knows them; other
/// strings, comments and names are left alone.
fn as_parser_reads(query: &str) -> String {
    let mut out = String::with_capacity(query.len());
    let mut rest = query;
    while let Some(c) = rest.chars().next() {
        let (word, after) = rest.split_at(token_end(rest));
        let is_number = c.is_ascii_digit() && word.chars().all(|c| c.is_ascii_digit() || "_.eE".contains(c));
        let is_digit = |c: char| c.is_ascii_digit();
        let separates = |at: usize| word[at + 1..].starts_with(is_digit) && word[..at].ends_with(is_digit);
        if is_number && word.match_indices('_').all(|(at, _)| separates(at)) {
            out.extend(word.chars().filter(|c| *c != '_'));
        } else if let Some(raw) = word.strip_prefix('`').and_then(|word| word.strip_suffix('`')) {
            let escaped = raw.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\r', "\\r");
            out.extend(["\"", &escaped, "\""]);
        } else {
            out.push_str(word);
        }
        rest = after;
    }
    out
}

/// Bytes of the string, comment, word or other character that a text begins with.
pub(super) fn token_end(text: &str) -> usize {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
    match text.chars().next() {
        None => 0,
        Some(quote @ ('"' | '\'' | '`')) => string_end(text, quote),
        Some('#') => text.find('\n').unwrap_or(text.len()),
        Some(c) if is_word(c) => text.find(|c| !is_word(c)).unwrap_or(text.len()),
        Some(c) => c.len_utf8(),
    }
}

/// Bytes of the string that a text begins with; all of the text when it does not end.
fn string_end(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && quote != '`' && !escaped;
    }
    text.len()
}

fn unknown(what: &str) -> QueryError {
    QueryError::execution(error::UNKNOWN, format!("{what} is not supported"))
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

fn shift(at: Option<&AtModifier>, offset: Option<&Offset>) -> Shift {
    let at = at.map(|at| match at {
        AtModifier::Start => At::Start,
        AtModifier::End => At::End,
        AtModifier::At(time) => At::Time(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => ms(since),
            Err(before) => -ms(before.duration()),
        }),
    });
    let offset_ms = offset.map_or(0, |offset| match offset {
        Offset::Pos(duration) => ms(*duration),
        Offset::Neg(duration) => -ms(*duration),
    });
    Shift { at, offset_ms }
}

fn instant(selector: &VectorSelector) -> (Selector, Shift) {
    let shift = shift(selector.at.as_ref(), selector.offset.as_ref());
    (Selector::new(selector.name.as_deref(), &selector.matchers), shift)
}

fn lower(expr: &Expr, places: &mut Places) -> Result<Node, QueryError> {
    Ok(match expr {
        Expr::NumberLiteral(number) => Node::Number(number.val),
        Expr::StringLiteral(text) => Node::Text(text.val.clone()),
        Expr::Paren(paren) => lower(&paren.expr, places)?,
        Expr::Unary(unary) => Node::Negate(Box::new(lower(&unary.expr, places)?)),
        Expr::VectorSelector(selector) => {
            let (selector, shift) = instant(selector);
            Node::Instant { selector, shift, as_time: false }
        }
        Expr::MatrixSelector(matrix) => {
            let (selector, shift) = instant(&matrix.vs);
            Node::Range(Range { input: RangeInput::Points(selector), shift, range_ms: ms(matrix.range) })
        }
        Expr::Subquery(subquery) => Node::Range(Range {
            input: RangeInput::Subquery(Box::new(lower(&subquery.expr, places)?), subquery.step.map(ms)),
            shift: shift(subquery.at.as_ref(), subquery.offset.as_ref()),
            range_ms: ms(subquery.range),
        }),
        Expr::Call(call) => lower_call(call, places)?,
        Expr::Aggregate(aggregate) => {
            let name = aggregate.op.to_string();
            let place = places.next(&name);
            let (by, labels) = match &aggregate.modifier {
                None => (true, Vec::new()),
                Some(LabelModifier::Include(labels)) => (true, labels.labels.clone()),
                Some(LabelModifier::Exclude(labels)) => (false, labels.labels.clone()),
            };
            Node::Aggregate {
                aggregation: Aggregation::named(&name).ok_or_else(|| unknown(&format!("aggregation \"{name}\"")))?,
                parameter: aggregate.param.as_ref().map(|parameter| lower(parameter, places).map(Box::new)).transpose()?,
                input: Box::new(lower(&aggregate.expr, places)?),
                by,
                labels,
                place,
            }
        }
        Expr::Binary(binary) => {
            let name = binary.op.to_string();
            Node::Binary {
                operator: Operator::named(&name).ok_or_else(|| unknown(&format!("operator \"{name}\"")))?,
                returns_bool: binary.return_bool(),
                matching: matching(binary.modifier.as_ref())?,
                left: Box::new(lower(&binary.lhs, places)?),
                right: Box::new(lower(&binary.rhs, places)?),
            }
        }
        Expr::Extension(_) => return Err(unknown("this extension")),
    })
}

fn matching(modifier: Option<&BinModifier>) -> Result<Matching, QueryError> {
    let mut matching = Matching { on: false, labels: Vec::new(), card: Cardinality::OneToOne, include: Vec::new() };
    let Some(modifier) = modifier else { return Ok(matching) };
    if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
        return Err(unknown("modifier \"fill\""));
    }
    match &modifier.matching {
        None => {}
        Some(LabelModifier::Include(labels)) => (matching.on, matching.labels) = (true, labels.labels.clone()),
        Some(LabelModifier::Exclude(labels)) => matching.labels = labels.labels.clone(),
    }
    match &modifier.card {
        VectorMatchCardinality::ManyToOne(labels) => {
            (matching.card, matching.include) = (Cardinality::ManyToOne, labels.labels.clone());
        }
        VectorMatchCardinality::OneToMany(labels) => {
            (matching.card, matching.include) = (Cardinality::OneToMany, labels.labels.clone());
        }
        VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => {}
    }
    Ok(matching)
}

fn lower_call(call: &Call, places: &mut Places) -> Result<Node, QueryError> {
    let name = call.func.name;
    let place = places.next(name);
    let mut arguments = call.args.args.iter().map(|argument| lower(argument, places)).collect::<Result<Vec<_>, _>>()?;
    if let Some(function) = RangeFunction::named(name) {
        let at = arguments.iter().position(|argument| matches!(argument, Node::Range(_)));
        let Some(Node::Range(range)) = at.map(|at| arguments.remove(at)) else {
            return Err(QueryError::bad(error::PARSE, format!("parse error: expected type range vector in call to function \"{name}\"")));
        };
        return Ok(Node::OverTime { function, arguments, range, place });
    }
    if name == "timestamp"
        && let [Node::Instant { selector, shift, as_time: false }] = arguments.as_slice()
    {
        return Ok(Node::Instant { selector: selector.clone(), shift: *shift, as_time: true });
    }
    let function = Function::named(name).ok_or_else(|| unknown(&format!("function \"{name}\"")))?;
    Ok(Node::Call { function, arguments, place })
}
