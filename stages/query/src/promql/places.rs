//! Where calls stand in the text of a query: the parser keeps no positions, and annotations name them.
//!
//! Calls of one name come in the same order in the text and in a walk through the expression from its root, so the n-th there is the n-th here.

use std::collections::{BTreeMap, VecDeque};

/// Positions of a call and of its arguments, as annotations show them: `(line:column)`, from 1.
#[derive(Clone, Default, Debug)]
pub(crate) struct Place {
    pub(crate) call: String,
    pub(crate) arguments: Vec<String>,
}

impl Place {
    /// Position of an argument.
    pub(crate) fn argument(&self, number: usize) -> &str {
        self.arguments.get(number).map_or("", String::as_str)
    }
}

/// The calls of a query that were not asked for yet, by name.
pub(super) struct Places(BTreeMap<String, VecDeque<Place>>);

/// A word in lower case and where it begins.
type Word = (String, usize);

/// A bracket that is open.
enum Open {
    /// Of this call.
    Call(usize),
    /// The labels of this aggregation, whose arguments follow.
    Grouping(String, usize),
    Other,
}

impl Places {
    /// Finds all calls.
    pub(super) fn of(query: &str) -> Self {
        let mut calls: Vec<(String, Place)> = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        // The word before the next bracket, and the aggregation whose `by` or `without` it may be.
        let (mut word, mut aggregation): (Option<Word>, Option<Word>) = (None, None);
        let mut at = 0;
        while let Some(c) = query[at..].chars().next() {
            let end = at + super::plan::token_end(&query[at..]);
            match c {
                c if c.is_whitespace() || c == '#' => {}
                '(' => {
                    open.push(match (word.take(), aggregation.take()) {
                        (Some(_), Some((name, start))) => Open::Grouping(name, start),
                        (Some((name, start)), None) => {
                            calls.push((name, Place { call: shown(query, start), arguments: first_argument(query, end) }));
                            Open::Call(calls.len() - 1)
                        }
                        _ => Open::Other,
                    });
                }
                '{' | '[' => {
                    (word, aggregation) = (None, None);
                    open.push(Open::Other);
                }
                ')' | '}' | ']' => {
                    (word, aggregation) = (None, None);
                    if let Some(Open::Grouping(name, start)) = open.pop() {
                        word = Some((name, start));
                    }
                }
                ',' => {
                    if let Some(Open::Call(call)) = open.last() {
                        calls[*call].1.arguments.extend(first_argument(query, end));
                    }
                }
                _ => {
                    let text = query[at..end].to_lowercase();
                    aggregation = word.take().filter(|_| matches!(text.as_str(), "by" | "without"));
                    word = c.is_alphabetic().then_some((text, at));
                }
            }
            at = end;
        }
        let mut places: BTreeMap<String, VecDeque<Place>> = BTreeMap::new();
        for (name, place) in calls {
            places.entry(name).or_default().push_back(place);
        }
        Self(places)
    }

    /// The next call of this name.
    pub(super) fn next(&mut self, name: &str) -> Place {
        self.0.get_mut(name).and_then(VecDeque::pop_front).unwrap_or_default()
    }
}

/// Position of what stands behind an opening bracket or a comma; none when that is the closing one.
fn first_argument(query: &str, mut at: usize) -> Vec<String> {
    while let Some(c) = query[at..].chars().next().filter(|c| c.is_whitespace() || *c == '#') {
        at += if c == '#' { super::plan::token_end(&query[at..]) } else { c.len_utf8() };
    }
    if query[at..].starts_with(')') { Vec::new() } else { vec![shown(query, at)] }
}

fn shown(query: &str, at: usize) -> String {
    let line = query[..at].matches('\n').count() + 1;
    let column = at - query[..at].rfind('\n').map_or(0, |newline| newline + 1) + 1;
    format!("({line}:{column})")
}
