//! Names and tags as PromQL labels (interfaces.md C0).
//!
//! `k:v` -> k="v"; bare `v` -> v="true"; a key with several values is one label, its sorted values joined by `,`; empty values are absent. A
//! name asked for that is not there matches the stored names that turn into it when every character outside `[a-zA-Z0-9_:]` becomes `_`.

use std::fmt;
use std::sync::Arc;

use tailors_model::{Series, TagKind};

/// The label that holds the metric's name.
pub const NAME: &str = "__name__";
/// Labels that describe the metric itself and go when an operation changes its meaning.
const METADATA: [&str; 3] = [NAME, "__type__", "__unit__"];

/// A label set: names sorted and unique, values not empty. Ordered as Prometheus orders label sets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Labels(Vec<(Arc<str>, Arc<str>)>);

impl Labels {
    /// From pairs in any order; later ones win, empty values are left out.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut labels = Self::default();
        for (name, value) in pairs {
            labels.set(name, value);
        }
        labels
    }

    /// What a stored series looks like to PromQL.
    pub fn of_series(series: &Series) -> Self {
        let mut labels = Vec::with_capacity(series.tags.len() + 1);
        labels.push((Arc::from(NAME), text(&series.metric)));
        let mut tags = series.tags.as_slice();
        while let Some(first) = tags.first() {
            let same = tags.iter().take_while(|tag| tag.key == first.key).count();
            let (group, rest) = tags.split_at(same);
            tags = rest;
            let mut values: Vec<Arc<str>> = group.iter().map(|tag| value_of(tag.kind, &tag.value)).filter(|v| !v.is_empty()).collect();
            if values.len() > 1 {
                values.sort_unstable();
                values.dedup();
            }
            let name = text(&first.key);
            match values.len() {
                0 => {}
                // A tag that is called like the metric's own label must not replace it.
                _ if &*name == NAME => {}
                1 => labels.push((name, values.swap_remove(0))),
                _ => labels.push((name, values.join(",").into())),
            }
        }
        labels.sort_unstable();
        Self(labels)
    }

    /// All labels in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(at, _)| (**at).cmp(name))
    }

    /// Value of exactly this label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.position(name).ok().map(|at| &*self.0[at].1)
    }

    /// Value of this label, or else of the stored labels that translate to it (several: sorted, joined by `,`).
    pub fn resolve(&self, name: &str) -> Option<Arc<str>> {
        if let Ok(at) = self.position(name) {
            return Some(self.0[at].1.clone());
        }
        let mut found: Vec<&Arc<str>> = self.0.iter().filter(|(stored, _)| translates_to(stored, name)).map(|(_, value)| value).collect();
        match found.len() {
            0 => None,
            1 => Some(found[0].clone()),
            _ => {
                found.sort_unstable();
                found.dedup();
                Some(found.into_iter().map(|v| &**v).collect::<Vec<_>>().join(",").into())
            }
        }
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        match (self.position(name), value.is_empty()) {
            (Ok(at), true) => {
                self.0.remove(at);
            }
            (Ok(at), false) => self.0[at].1 = value.into(),
            (Err(_), true) => {}
            (Err(at), false) => self.0.insert(at, (name.into(), value.into())),
        }
    }

    /// Without the labels that describe the metric itself.
    pub fn without_name(&self) -> Self {
        Self(self.0.iter().filter(|(name, _)| !METADATA.contains(&&**name)).cloned().collect())
    }

    /// Only the labels asked for, under the names asked for.
    pub fn only(&self, names: &[String]) -> Self {
        let mut labels = Self::default();
        for name in names {
            if let Some(value) = self.resolve(name) {
                labels.set(name, &value);
            }
        }
        labels
    }

    /// All but the labels named (or translating to a name that is not there itself); keeps the metric's name.
    pub fn without(&self, names: &[String]) -> Self {
        let goes = |stored: &str| names.iter().any(|name| name == stored || translates_to(stored, name) && self.position(name).is_err());
        Self(self.0.iter().filter(|(stored, _)| !goes(stored)).cloned().collect())
    }
}

/// As Prometheus writes a label set in messages.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            if is_plain(name) { write!(f, "{comma}{name}={value:?}")? } else { write!(f, "{comma}{name:?}={value:?}")? }
        }
        f.write_str("}")
    }
}

/// Text of stored bytes; what is not UTF-8 shows as U+FFFD.
pub fn text(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}

/// Label value of one tag.
pub fn value_of(kind: TagKind, value: &[u8]) -> Arc<str> {
    match kind {
        TagKind::Bare => "true".into(),
        TagKind::Pair => text(value),
    }
}

/// Whether a name can be written without quotes.
pub fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_plain_char)
}

fn is_plain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The name with every character outside `[a-zA-Z0-9_:]` as `_`.
pub fn translated(name: &str) -> String {
    name.chars().map(|c| if is_plain_char(c) { c } else { '_' }).collect()
}

/// Whether a stored name is another one than `asked` and turns into it.
pub fn translates_to(stored: &str, asked: &str) -> bool {
    // A name that stays as it is can't turn into another one; most end here.
    asked.contains('_') && stored != asked && stored.chars().map(|c| if is_plain_char(c) { c } else { '_' }).eq(asked.chars())
}

/// Undoes the `U__` escape of names in URLs: `U__a_2e_b` is `a.b`, `__` is `_`.
pub fn unescape(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let code = rest.split_once('_').and_then(|(hex, after)| Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, after)));
        // A name that is no valid escape stands for itself, as in Prometheus.
        let Some((c, after)) = code else { return name.to_owned() };
        out.push(c);
        rest = after;
    }
    out.push_str(rest);
    out
}
