//! A selector settled on stored metric names, as a filter of series: of one at a time, or of all in a file by the numbers of their tags.
//!
//! Invariant: both ways say the same. The second tells most series by looking which of a file's tags match; only where a label has several values
//! are they put together.

use std::collections::BTreeSet;

use promql_parser::label::{MatchOp, Matcher};
use tailors_model::matcher::ValueMatcher;
use tailors_model::source::{SeriesFilter, TagTest};
use tailors_model::{Series, Tag, TagKind};

use super::labels::{translates_to, value_of};

/// A test of one series costs about as much as marking so many tags: where the dictionary is larger, each series is tested by itself.
const TAGS_PER_SERIES_MAX: usize = 64;

/// Metric names and matchers as alternatives: a series is meant when all of one of them holds.
pub(crate) struct Filter<'a> {
    alternatives: Vec<Alternative<'a>>,
}

struct Alternative<'a> {
    names: BTreeSet<Vec<u8>>,
    matchers: Vec<LabelMatcher<'a>>,
}

/// A matcher of a label that is not the metric's name.
struct LabelMatcher<'a> {
    name: &'a str,
    /// The positive form.
    value: ValueMatcher,
    negative: bool,
}

impl<'a> Filter<'a> {
    /// Of stored names and the matchers of other labels.
    pub(crate) fn new<M: Iterator<Item = &'a Matcher>>(alternatives: impl Iterator<Item = (BTreeSet<Vec<u8>>, M)>) -> Self {
        let alternatives = alternatives.map(|(names, matchers)| Alternative { names, matchers: matchers.map(LabelMatcher::new).collect() });
        Self { alternatives: alternatives.collect() }
    }
}

impl SeriesFilter for Filter<'_> {
    fn metric(&self, metric: &[u8]) -> bool {
        self.alternatives.iter().any(|alternative| alternative.names.contains(metric))
    }

    fn series(&self, series: &Series) -> bool {
        let fits = |matchers: &[LabelMatcher<'_>]| matchers.iter().all(|matcher| matcher.holds(series));
        self.alternatives.iter().any(|alternative| alternative.names.contains(&*series.metric) && fits(&alternative.matchers))
    }

    fn on_tags<'a>(&'a self, tags: &'a [Tag], series: usize) -> TagTest<'a> {
        if series.saturating_mul(TAGS_PER_SERIES_MAX) < tags.len() {
            return Box::new(|_, _| None);
        }
        let settle = |alternative: &Alternative<'_>| alternative.matchers.iter().map(|matcher| matcher.on_tags(tags)).collect();
        let settled: Vec<Vec<Settled>> = self.alternatives.iter().map(settle).collect();
        Box::new(move |metric, numbers| {
            let own = self.alternatives.iter().zip(&settled).filter(|(alternative, _)| alternative.names.contains(metric));
            any(own.map(|(_, matchers)| all(matchers.iter().map(|matcher| matcher.holds(numbers)))))
        })
    }
}

/// Whether one holds; `None` while one that does not is not known to.
fn any(mut tests: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut open = false;
    let found = tests.any(|test| {
        open |= test.is_none();
        test == Some(true)
    });
    if found { Some(true) } else { (!open).then_some(false) }
}

/// Whether all hold; `None` while none is known not to.
fn all(tests: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    any(tests.map(|test| test.map(|holds| !holds))).map(|one_fails| !one_fails)
}

impl<'a> LabelMatcher<'a> {
    fn new(matcher: &'a Matcher) -> Self {
        let value = match &matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => ValueMatcher::equal(&matcher.value),
            MatchOp::Re(regex) | MatchOp::NotRe(regex) => ValueMatcher::regex(regex),
        };
        Self { name: &matcher.name, value, negative: matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRe(_)) }
    }

    /// Whether it holds: on the joined value or any single one; a negative one when its positive form doesn't.
    fn holds(&self, series: &Series) -> bool {
        let value = |kind: TagKind, value: &[u8]| value_of(kind, value);
        let keyed = |fits: &dyn Fn(&[u8]) -> bool| {
            let tags = series.tags.iter().filter(|tag| fits(&tag.key));
            tags.map(|tag| value(tag.kind, &tag.value)).filter(|value| !value.is_empty()).collect::<Vec<_>>()
        };
        let mut values = keyed(&|key| key == self.name.as_bytes());
        if values.is_empty() && self.name.contains('_') {
            values = keyed(&|key| self.is_translated(key));
        }
        let found = match values.len() {
            0 => self.value.is_match_text(""),
            1 => self.value.is_match_text(&values[0]),
            _ => {
                values.sort_unstable();
                values.dedup();
                values.iter().any(|value| self.value.is_match_text(value)) || self.value.is_match_text(&values.join(","))
            }
        };
        found != self.negative
    }

    fn is_translated(&self, key: &[u8]) -> bool {
        std::str::from_utf8(key).is_ok_and(|key| translates_to(key, self.name))
    }

    fn on_tags(&self, tags: &[Tag]) -> Settled {
        let mut levels = [Vec::new(), Vec::new()];
        let mut first = 0;
        while let Some(tag) = tags.get(first) {
            let key = &tag.key[..];
            let same = &tags[first..first + tags[first..].partition_point(|tag| &tag.key[..] <= key)];
            let level = if key == self.name.as_bytes() { Some(0) } else { self.is_translated(key).then_some(1) };
            if let Some(level) = level {
                let marks = self.value.mark(same).into_iter().zip(same);
                let mark = |(matches, tag): (bool, &Tag)| match matches {
                    _ if tag.kind == TagKind::Pair && tag.value.is_empty() => Mark::Empty,
                    true => Mark::Match,
                    false => Mark::Other,
                };
                levels[level].push((first as u32, marks.map(mark).collect()));
            }
            first += same.len();
        }
        Settled { levels, absent: self.value.is_match_text(""), negative: self.negative }
    }
}

/// What a tag says to a matcher.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Nothing: an empty value is as none.
    Empty,
    Match,
    Other,
}

/// A matcher settled on a file's tags.
struct Settled {
    /// Keys of the name itself, and those that translate to it, which count where a series has none of the former: first tag, marks.
    levels: [Vec<(u32, Vec<Mark>)>; 2],
    /// Whether the positive form matches where there is no value.
    absent: bool,
    negative: bool,
}

impl Settled {
    /// `None` when values have to be put together.
    fn holds(&self, numbers: &[u32]) -> Option<bool> {
        for level in &self.levels {
            let (mut values, mut matches) = (0, false);
            for (first, marks) in level {
                let own = numbers.iter().filter_map(|number| marks.get(number.checked_sub(*first)? as usize));
                for mark in own.filter(|mark| **mark != Mark::Empty) {
                    values += 1;
                    matches |= *mark == Mark::Match;
                }
            }
            match values {
                0 => {}
                1 => return Some(matches != self.negative),
                // One that matches is enough; all that don't may match together.
                _ => return matches.then_some(!self.negative),
            }
        }
        Some(self.absent != self.negative)
    }
}

#[cfg(test)]
mod tests {
    use tailors_model::canonical_tags;

    use super::*;
    use crate::promql::selectors;

    const SETS: &[&str] = &[
        "",
        "env:prod",
        "env:dev",
        "env",
        "env:",
        "env:dev env:prod",
        "env:dev env:dev2",
        "env env:true",
        "env: env:dev",
        "kube.ns:a",
        "kube_ns:a",
        "kube.ns:a kube_ns:b",
        "kube.ns:a kube/ns:b",
        "kube.ns:b kube_ns:",
        "host:h1 env:prod",
        "host:h2 env:prod kube.ns:a",
        "host:h2",
    ];

    const QUERIES: &[&str] = &[
        "m",
        "{env=\"prod\"}",
        "m{env!=\"prod\"}",
        "m{env=\"\"}",
        "m{env!=\"\"}",
        "m{env=~\"pr.*|dev\"}",
        "m{env!~\"d.*\"}",
        "m{env=~\".*\"}",
        "m{env=~\".+\"}",
        "m{env=\"true\"}",
        "m{env=\"dev,prod\"}",
        "m{env=~\"dev,.*\"}",
        "m{env!~\".*,.*\"}",
        "m{kube_ns=\"a\"}",
        "m{kube_ns=\"b\"}",
        "m{kube_ns=\"a,b\"}",
        "m{kube_ns!=\"a\"}",
        "m{kube_ns=\"\"}",
        "m{host=~\"h.\",env=\"prod\",kube_ns!=\"a\"}",
        "{__name__=~\"m|n\",env=\"prod\"}",
        "n{env=\"dev\"}",
        "m{none=\"\"}",
        "m{none!=\"\"}",
    ];

    #[test]
    fn tag_by_tag_says_what_the_whole_series_says() {
        let set = |words: &str| {
            let tag = |word: &str| match word.split_once(':') {
                Some((key, value)) => Tag::pair(key.to_owned(), value.to_owned()),
                None => Tag::bare(word.to_owned()),
            };
            let mut tags: Vec<Tag> = words.split_whitespace().map(tag).collect();
            canonical_tags(&mut tags);
            tags
        };
        let mut dictionary: Vec<Tag> = SETS.iter().flat_map(|words| set(words)).collect();
        canonical_tags(&mut dictionary);
        let (mut settled, mut asked) = (0, 0);
        for query in QUERIES {
            let selector = selectors(query).unwrap_or_else(|error| panic!("{query}: {error}"));
            let (filter, _) = selector.resolve(&["m", "n"]);
            let test = filter.on_tags(&dictionary, SETS.len());
            for (metric, words) in ["m", "n"].iter().flat_map(|metric| SETS.iter().map(move |words| (*metric, words))) {
                let tags = set(words);
                let numbers: Vec<u32> = tags.iter().filter_map(|tag| Some(dictionary.binary_search(tag).ok()? as u32)).collect();
                let whole = filter.series(&Series { metric: metric.as_bytes().to_vec().into(), tags });
                match test(metric.as_bytes(), &numbers) {
                    Some(known) => {
                        assert_eq!(known, whole, "{query} {metric} {words}");
                        settled += 1;
                    }
                    None => asked += 1,
                }
            }
        }
        assert!(settled > 700 && asked > 0, "{settled} {asked}");
    }
}
