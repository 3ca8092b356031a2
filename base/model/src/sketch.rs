//! DDSketch: how many values fell into each bin of a logarithmic scale, as the Datadog agent sends it; merging adds counts and loses none.
//!
//! One mapping, the agent's (gamma = 1.015625): bin 0 holds zeros, bin k > 0 values about gamma^(k - 1338), bin -k their negatives, bins 32767 and
//! -32767 infinities. Only readers need to know: merging adds bin by bin. `count`, `sum`, `min`, `max` and `avg` are kept as sent, bit for
//! bit, even where they disagree with the bins.

use std::cmp::Ordering;

/// What can't be a sketch or histogram, e.g. bins out of order: a bug of who made it, or damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Why two sketches or histograms have no sum. Both are as they were.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum MergeError {
    /// A count would be greater than its type holds.
    #[error("a merged count passes 2^64 - 1: keep the parts apart")]
    Overflow,
    /// Custom buckets with other bounds, or custom ones with exponential ones.
    #[error("custom buckets merge with custom buckets of the same bounds only")]
    Bounds,
    /// Zero buckets of other widths: what lies between them can't be told apart.
    #[error("zero thresholds {0} and {1} differ: widen the narrower zero bucket first")]
    ZeroThreshold(f64, f64),
    /// One counts in integers, the other in doubles.
    #[error("one histogram counts in integers, the other in doubles: convert one first")]
    Flavour,
    /// A marker that a series ended.
    #[error("a stale marker is no value: leave it out")]
    Stale,
}

/// Values of one bin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Bin {
    /// Which bin.
    pub key: i32,
    /// How many values, at least 1.
    pub count: u64,
}

/// A sketch of the values of one interval.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    /// Bins that are not empty, ascending by key.
    pub bins: Vec<Bin>,
    /// Values, as sent.
    pub count: u64,
    /// Sum of the values, as sent.
    pub sum: f64,
    /// Least value, as sent.
    pub min: f64,
    /// Greatest value, as sent.
    pub max: f64,
    /// Average, as sent.
    pub avg: f64,
}

impl Sketch {
    /// Bins from keys with counts in any order: the agent sends a key again when its count passes 65,535, counts of one key are added; `None` if a sum
    /// passes 2^64 - 1.
    pub fn bins_of(keys: impl IntoIterator<Item = (i32, u64)>) -> Option<Vec<Bin>> {
        let mut bins: Vec<Bin> = keys.into_iter().map(|(key, count)| Bin { key, count }).filter(|bin| bin.count > 0).collect();
        if bins.is_sorted_by(|a, b| a.key < b.key) {
            return Some(bins);
        }
        bins.sort_by_key(|bin| bin.key);
        let mut out: Vec<Bin> = Vec::with_capacity(bins.len());
        for bin in bins {
            match out.last_mut() {
                Some(last) if last.key == bin.key => last.count = last.count.checked_add(bin.count)?,
                _ => out.push(bin),
            }
        }
        Some(out)
    }

    /// Whether this can be a sketch.
    ///
    /// # Errors
    /// Bins out of order or empty.
    pub fn check(&self) -> Result<(), Malformed> {
        if !self.bins.is_sorted_by(|a, b| a.key < b.key) {
            return Err(Malformed("keys of the bins do not ascend"));
        }
        if self.bins.iter().any(|bin| bin.count == 0) {
            return Err(Malformed("a bin counts nothing"));
        }
        Ok(())
    }

    /// The sketch of both. Counts, minimum and maximum are exact: the order of merges changes none of them. `sum` is an addition of
    /// doubles, `avg` is sum / count; a sketch of no values changes neither minimum, maximum nor average.
    ///
    /// # Errors
    /// [`MergeError::Overflow`].
    pub fn merge(&self, other: &Self) -> Result<Self, MergeError> {
        let bins = merge_sorted(
            &self.bins,
            &other.bins,
            |bin| bin.key,
            |a, b| a.count.checked_add(b.count).map(|count| Bin { key: a.key, count }),
        );
        let bins = bins.ok_or(MergeError::Overflow)?;
        let count = self.count.checked_add(other.count).ok_or(MergeError::Overflow)?;
        let sum = self.sum + other.sum;
        let (min, max) = match (self.count, other.count) {
            (0, 1..) => (other.min, other.max),
            (1.., 0) => (self.min, self.max),
            _ => (least(self.min, other.min, Ordering::Less), least(self.max, other.max, Ordering::Greater)),
        };
        let avg = if count == 0 { 0.0 } else { sum / count as f64 };
        Ok(Self { bins, count, sum, min, max, avg })
    }
}

/// Bit for bit: a NaN equals itself, zeros differ by sign.
impl PartialEq for Sketch {
    fn eq(&self, other: &Self) -> bool {
        let doubles = |own: &Self| [own.sum, own.min, own.max, own.avg].map(f64::to_bits);
        self.bins == other.bins && self.count == other.count && doubles(self) == doubles(other)
    }
}

/// The one that stands first in the total order of doubles, or last: unlike with `f64::min` it is told which zero and which NaN.
fn least(a: f64, b: f64, wanted: Ordering) -> f64 {
    if a.total_cmp(&b) == wanted { a } else { b }
}

/// Union of two lists sorted by key; `add` joins items of one key, `None` if they have no sum.
pub(crate) fn merge_sorted<T: Copy>(a: &[T], b: &[T], key: fn(&T) -> i32, add: impl Fn(T, T) -> Option<T>) -> Option<Vec<T>> {
    let mut out = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a, b);
    while let (Some((left, rest_a)), Some((right, rest_b))) = (a.split_first(), b.split_first()) {
        match key(left).cmp(&key(right)) {
            Ordering::Less => {
                out.push(*left);
                a = rest_a;
            }
            Ordering::Greater => {
                out.push(*right);
                b = rest_b;
            }
            Ordering::Equal => {
                out.push(add(*left, *right)?);
                (a, b) = (rest_a, rest_b);
            }
        }
    }
    out.extend_from_slice(a);
    out.extend_from_slice(b);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch() -> impl Strategy<Value = Sketch> {
        let keys = prop::collection::vec((-40i32..40, 0u64..100), 0..40);
        let doubles = (-10i32..10, -10i32..10).prop_map(|(a, b)| (f64::from(a) / 4.0, f64::from(b) / 4.0));
        (keys, doubles).prop_map(|(keys, (min, max))| {
            let bins = Sketch::bins_of(keys).unwrap();
            let count: u64 = bins.iter().map(|bin| bin.count).sum();
            // Quarters add exactly.
            Sketch { bins, count, sum: min + max, min, max, avg: if count == 0 { 0.0 } else { (min + max) / count as f64 } }
        })
    }

    proptest! {
        #[test]
        fn merging_is_associative_and_commutative(a in sketch(), b in sketch(), c in sketch()) {
            let left = a.merge(&b).unwrap().merge(&c).unwrap();
            let right = a.merge(&b.merge(&c).unwrap()).unwrap();
            prop_assert_eq!(&left, &right);
            prop_assert_eq!(a.merge(&b), b.merge(&a));
            left.check().unwrap();
            let total: u64 = [&a, &b, &c].iter().flat_map(|own| &own.bins).map(|bin| bin.count).sum();
            prop_assert_eq!(left.bins.iter().map(|bin| bin.count).sum::<u64>(), total);
            prop_assert_eq!(left.count, total);
        }

        #[test]
        fn merged_bins_are_the_bins_of_all_values(a in prop::collection::vec((-9i32..9, 1u64..5), 0..30), b in prop::collection::vec((-9i32..9, 1u64..5), 0..30)) {
            let of = |keys: &[(i32, u64)]| Sketch { bins: Sketch::bins_of(keys.iter().copied()).unwrap(), ..Default::default() };
            let both: Vec<(i32, u64)> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(of(&a).merge(&of(&b)).unwrap().bins, of(&both).bins);
        }
    }

    #[test]
    fn too_great_counts_are_refused_and_never_wrap() {
        let full = Sketch { bins: vec![Bin { key: 5, count: u64::MAX }], count: 1, ..Default::default() };
        let one = Sketch { bins: vec![Bin { key: 5, count: 1 }], count: 1, ..Default::default() };
        assert_eq!(full.merge(&one), Err(MergeError::Overflow));
        assert_eq!(one.merge(&full), Err(MergeError::Overflow));
        let counted = Sketch { count: u64::MAX, ..Default::default() };
        assert_eq!(counted.merge(&one), Err(MergeError::Overflow));
        assert_eq!(Sketch::bins_of([(1, u64::MAX), (1, 1)]), None);
        assert!(full.merge(&Sketch { bins: vec![Bin { key: 6, count: 1 }], ..Default::default() }).is_ok());
    }

    #[test]
    fn keys_sent_again_are_added_and_malformed_bins_refused() {
        let bins = Sketch::bins_of([(7, 65_535), (7, 3), (-2, 1), (9, 0)]).unwrap();
        assert_eq!(bins, [Bin { key: -2, count: 1 }, Bin { key: 7, count: 65_538 }]);
        let of = |bins: Vec<Bin>| Sketch { bins, ..Default::default() };
        assert!(of(bins).check().is_ok());
        assert!(of(vec![Bin { key: 1, count: 1 }, Bin { key: 1, count: 1 }]).check().is_err());
        assert!(of(vec![Bin { key: 1, count: 0 }]).check().is_err());
    }
}
