//! Which values of a tag key a text or regular expression means, for dictionaries of millions of sorted tags.
//!
//! In: tags of one key in canonical order, each once. Invariant: a value matches exactly when the regular expression does on its text (what is no
//! UTF-8 reads as U+FFFD, a bare tag as `true`), however it was decided: by binary search where only a few texts or beginnings are possible, by
//! an automaton that goes through several values at once where there are many, else by the expression itself.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use regex::Regex;
use regex_automata::Anchored;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, HirKind, Look};

use crate::{Tag, TagKind};

/// What a bare tag's value reads as.
const BARE: &str = "true";
/// Stands for what is no UTF-8.
const UNREADABLE: &str = "\u{fffd}";

/// From so many values on an automaton is worth being built.
const AUTOMATON_VALUES_MIN: usize = 4_096;
/// Bytes that an automaton, and building it, may take.
const AUTOMATON_BYTES_MAX: usize = 1 << 20;
/// Values that go through an automaton together: one step waits for the one before it, but not for those of other values.
const LANES: usize = 4;

/// A test of values.
#[derive(Clone, Debug)]
pub struct ValueMatcher {
    test: Test,
    /// Beginnings of which every matching value has one; none: any value may match. Sorted, none begins with another.
    beginnings: Option<Vec<Vec<u8>>>,
}

#[derive(Clone, Debug)]
enum Test {
    /// One of these texts, sorted.
    Texts(Vec<Vec<u8>>),
    Regex {
        regex: Regex,
        /// Whether it is anchored on both sides.
        whole: bool,
        /// Built when first asked for; shared by clones.
        automaton: Arc<OnceLock<Option<Automaton>>>,
    },
}

impl Test {
    fn of(regex: &Regex, whole: bool) -> Self {
        Self::Regex { regex: regex.clone(), whole, automaton: Arc::default() }
    }
}

impl ValueMatcher {
    /// Values that read as this text.
    pub fn equal(text: &str) -> Self {
        Self::texts(vec![text.as_bytes().to_vec()])
    }

    /// Values that a regular expression finds something in: anchor it to mean whole values.
    pub fn regex(regex: &Regex) -> Self {
        let plain = || Self { test: Test::of(regex, false), beginnings: None };
        let Some(inner) = regex_syntax::parse(regex.as_str()).ok().and_then(|hir| whole(&hir)) else { return plain() };
        let found = Extractor::new().kind(ExtractKind::Prefix).extract(&inner);
        let texts = found.literals().map(|texts| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>());
        match texts {
            // Literals leave assertions out.
            Some(texts) if found.is_exact() && inner.properties().look_set().is_empty() => Self::texts(texts),
            texts => Self { test: Test::of(regex, true), beginnings: texts.and_then(beginnings_of) },
        }
    }

    fn texts(mut texts: Vec<Vec<u8>>) -> Self {
        texts.sort_unstable();
        texts.dedup();
        Self { beginnings: beginnings_of(texts.clone()), test: Test::Texts(texts) }
    }

    /// Whether a tag's value matches.
    pub fn is_match(&self, kind: TagKind, value: &[u8]) -> bool {
        match (kind, std::str::from_utf8(value)) {
            (TagKind::Bare, _) => self.is_match_text(BARE),
            (TagKind::Pair, Ok(text)) => self.is_match_text(text),
            (TagKind::Pair, Err(_)) => self.is_match_text(&String::from_utf8_lossy(value)),
        }
    }

    /// Whether a text matches.
    pub fn is_match_text(&self, text: &str) -> bool {
        match &self.test {
            Test::Texts(texts) => texts.binary_search_by(|own| own.as_slice().cmp(text.as_bytes())).is_ok(),
            Test::Regex { regex, .. } => regex.is_match(text),
        }
    }

    /// Which of these tags of one key, in canonical order, match.
    pub fn mark(&self, tags: &[Tag]) -> Vec<bool> {
        let mut marks = vec![false; tags.len()];
        let bare = tags.partition_point(|tag| tag.kind == TagKind::Bare);
        self.mark_each(&tags[..bare], &mut marks[..bare], None);
        let ranges: Vec<Range<usize>> = match &self.beginnings {
            None => std::iter::once(bare..tags.len()).collect(),
            Some(beginnings) => beginnings.iter().map(|beginning| beginning_with(tags, bare, beginning)).collect(),
        };
        let automaton = match &self.test {
            Test::Regex { regex, whole: true, automaton } if ranges.iter().map(Range::len).sum::<usize>() >= AUTOMATON_VALUES_MIN => {
                automaton.get_or_init(|| Automaton::of(regex)).as_ref()
            }
            _ => None,
        };
        for range in ranges {
            self.mark_each(&tags[range.clone()], &mut marks[range], automaton);
        }
        marks
    }

    fn mark_each(&self, tags: &[Tag], marks: &mut [bool], automaton: Option<&Automaton>) {
        let (mut fours, mut fours_marks) = (tags.chunks_exact(LANES), marks.chunks_exact_mut(LANES));
        for (tags, marks) in fours.by_ref().zip(fours_marks.by_ref()) {
            // What is ASCII is its own text.
            let values: [&[u8]; LANES] = std::array::from_fn(|lane| &tags[lane].value[..]);
            match automaton.filter(|_| values.iter().all(|value| value.is_ascii())) {
                Some(automaton) => marks.copy_from_slice(&automaton.accepts(values)),
                None => marks.iter_mut().zip(tags).for_each(|(mark, tag)| *mark = self.is_match(tag.kind, &tag.value)),
            }
        }
        let rest = fours_marks.into_remainder().iter_mut().zip(fours.remainder());
        rest.for_each(|(mark, tag)| *mark = self.is_match(tag.kind, &tag.value));
    }
}

/// The pairs that begin with this, those before `bare` being bare tags.
fn beginning_with(tags: &[Tag], bare: usize, beginning: &[u8]) -> Range<usize> {
    let from = bare + tags[bare..].partition_point(|tag| &tag.value[..] < beginning);
    from..from + tags[from..].partition_point(|tag| tag.value.starts_with(beginning))
}

/// What an expression that is anchored on both sides has between them.
fn whole(hir: &Hir) -> Option<Hir> {
    let HirKind::Concat(parts) = hir.kind() else { return None };
    let [first, inner @ .., last] = parts.as_slice() else { return None };
    let is = |hir: &Hir, look: Look| matches!(hir.kind(), HirKind::Look(own) if *own == look);
    (is(first, Look::Start) && is(last, Look::End)).then(|| Hir::concat(inner.to_vec()))
}

/// An anchored expression as a table of states.
#[derive(Debug)]
struct Automaton {
    states: dense::DFA<Vec<u32>>,
    start: StateID,
}

impl Automaton {
    /// `None` for expressions that make too many states or have none, as word boundaries.
    fn of(regex: &Regex) -> Option<Self> {
        let config = dense::Config::new().start_kind(StartKind::Anchored).accelerate(false);
        let config = config.dfa_size_limit(Some(AUTOMATON_BYTES_MAX)).determinize_size_limit(Some(AUTOMATON_BYTES_MAX));
        let states = dense::Builder::new().configure(config).build(regex.as_str()).ok()?;
        let start = states.start_state(&start::Config::new().anchored(Anchored::Yes)).ok()?;
        Some(Self { states, start })
    }

    fn accepts(&self, values: [&[u8]; LANES]) -> [bool; LANES] {
        let shortest = values.iter().map(|value| value.len()).min().unwrap_or(0);
        let (mut now, [a, b, c, d]) = ([self.start; LANES], values.map(|value| value[..shortest].iter()));
        for (((a, b), c), d) in a.zip(b).zip(c).zip(d) {
            for (state, byte) in now.iter_mut().zip([a, b, c, d]) {
                *state = self.states.next_state(*state, *byte);
            }
        }
        std::array::from_fn(|lane| {
            let end = values[lane][shortest..].iter().fold(now[lane], |state, byte| self.states.next_state(state, *byte));
            self.states.is_match_state(self.states.next_eoi_state(end))
        })
    }
}

/// Sorted, without those that begin with another; `None` when values can begin with anything.
fn beginnings_of(mut texts: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    // What is no UTF-8 is stored otherwise than it reads.
    let readable = |text: &Vec<u8>| std::str::from_utf8(text).is_ok_and(|text| !text.contains(UNREADABLE));
    if !texts.iter().all(readable) {
        return None;
    }
    texts.sort_unstable();
    texts.dedup_by(|next, kept| next.starts_with(kept));
    (!texts.iter().any(Vec::is_empty)).then_some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical_tags;

    const PATTERNS: &[&str] = &[
        "",
        "a",
        "host-1",
        "a|b|host-1",
        "host-1.*",
        "host-.+",
        ".*",
        ".+",
        ".*1",
        ".*st.*",
        ".+st.+",
        "h.*-.*1",
        "h.+t.*.+",
        "host-[0-9]+",
        "host-(1|2)[0-9]",
        "(?i)HOST-1",
        "(?i)host.*",
        r"host\b.*",
        r"\bhost-1",
        r"host-1\b",
        "(host)-(.*)",
        "(?s).*st.*",
        "a?",
        "a*",
        "(ab)*",
        "[^a].*",
        "x{0}",
        "a\n.*",
        ".*\n.*",
        "true",
        "tru.*",
        "ü.*",
        ".ü",
        ".*\u{fffd}",
        "\u{fffd}.*",
        "\u{fffd}",
        "(?:a|ab)(?:c|bcd)",
        ".*a.*a",
        ".*a.*a.*",
        "..",
        ".{2,3}",
        r"[^\s\S]",
        "a)|(?:b",
    ];

    const VALUES: &[&[u8]] = &[
        b"",
        b"a",
        b"b",
        b"aa",
        b"ab",
        b"abab",
        b"abcd",
        b"abc",
        b"ac",
        b"a\nb",
        b"a\n",
        b"\n",
        b"\na",
        b"b\n",
        b"host-1",
        b"host-12",
        b"host-2",
        b"host-20",
        b"host-1\n",
        b"HOST-1",
        b"host",
        b"host-",
        b"xhost-1",
        b"host 1",
        b"st",
        b"xst",
        b"stx",
        b"xstx",
        b"true",
        b"truth",
        b"\xc3\xbc",
        b"\xc3\xbc\xc3\xbc",
        b"a\xc3\xbc",
        b"\xff",
        b"\xffa",
        b"a\xff",
        b"host-\xff1",
        b"h\xfft-1",
    ];

    fn anchored(pattern: &str) -> Regex {
        Regex::new(&format!("^(?:{pattern})$")).unwrap()
    }

    #[test]
    fn a_matcher_says_what_its_expression_says() {
        // Enough for an automaton: each value also in front of and behind some digits.
        let more =
            VALUES.iter().flat_map(|value| (0..60).flat_map(move |n: u8| [[*value, &[n + 20]].concat(), [&[n + 40], *value].concat()]));
        let all = VALUES.iter().map(|value| value.to_vec()).chain(more);
        let mut tags: Vec<Tag> = all.map(|value| Tag::pair("k", value)).chain([Tag::bare("k")]).collect();
        canonical_tags(&mut tags);
        assert!(tags.len() > AUTOMATON_VALUES_MIN, "{}", tags.len());
        let text = |tag: &Tag| if tag.kind == TagKind::Bare { BARE.to_owned() } else { String::from_utf8_lossy(&tag.value).into_owned() };
        for pattern in PATTERNS {
            let regex = anchored(pattern);
            let matcher = ValueMatcher::regex(&regex);
            for (tag, mark) in tags.iter().zip(matcher.mark(&tags)) {
                let expected = regex.is_match(&text(tag));
                assert_eq!((mark, matcher.is_match(tag.kind, &tag.value)), (expected, expected), "{pattern:?} {tag:?} {matcher:?}");
            }
        }
        for asked in ["", "a", "true", "\u{fffd}", "host-1"] {
            let marks = ValueMatcher::equal(asked).mark(&tags);
            assert!(tags.iter().zip(marks).all(|(tag, mark)| mark == (text(tag) == asked)), "{asked:?}");
        }
    }

    #[test]
    fn literals_are_compared_and_beginnings_searched() {
        let matcher = |pattern: &str| ValueMatcher::regex(&anchored(pattern));
        assert!(
            matches!(matcher("a|b|cd?").test, Test::Texts(texts) if texts == [b"a".to_vec(), b"b".to_vec(), b"c".to_vec(), b"cd".to_vec()])
        );
        assert_eq!(matcher("host-1.*").beginnings, Some(vec![b"host-1".to_vec()]));
        assert!(matcher("(a|b)[0-9]+x").beginnings.is_some_and(|beginnings| beginnings.len() == 20));
        assert!(matcher(".*[0-9]").beginnings.is_none());
        assert!(Automaton::of(&anchored(".*[0-4]f[0-9]{3}.*")).is_some() && Automaton::of(&anchored(r"\bhost.*")).is_none());
    }
}
