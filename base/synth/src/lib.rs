//! Seeded synthetic fleets and their truth: what demo, tests, benchmarks and simulation share.
//!
//! In: a class, a seed, sizes. Out: series with points, the same on every machine. Invariants: series i depends on (class, seed, i) alone, so
//! a larger fleet begins with the smaller one; timestamps of a series are strictly increasing. Killed here: nothing is kept.

mod class;
mod walk;

pub use class::Class;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Kind of fleet.
    pub class: Class,
    /// Seed; equal seeds give equal data.
    pub seed: u64,
    /// Series.
    pub series: u32,
    /// First second, Unix.
    pub start_s: i64,
    /// Seconds covered.
    pub seconds: u32,
    /// Seconds between points of a regular series.
    pub step_s: u32,
}

/// One series with all its points.
#[derive(Clone, Debug)]
pub struct SynthSeries {
    /// Metric name, with dots.
    pub metric: String,
    /// Tags, key and value, sorted by key.
    pub tags: Vec<(String, String)>,
    /// Unix milliseconds and value.
    pub points: Vec<(i64, f64)>,
}

/// Makes series one after another; holds one of them at a time.
pub fn generate(spec: Spec) -> impl Iterator<Item = SynthSeries> {
    (0..spec.series).map(move |index| class::series(&spec, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: Spec = Spec { class: Class::Mix, seed: 7, series: 60, start_s: 1_795_132_800, seconds: 600, step_s: 1 };

    #[test]
    fn equal_seeds_give_equal_data_and_others_differ() {
        let bits = |spec: Spec| generate(spec).flat_map(|s| s.points).map(|(at, value)| (at, value.to_bits())).collect::<Vec<_>>();
        assert_eq!(bits(SPEC), bits(SPEC));
        assert_ne!(bits(SPEC), bits(Spec { seed: 8, ..SPEC }));
        assert_eq!(bits(SPEC)[..1_000], bits(Spec { series: 90, ..SPEC })[..1_000]);
    }

    #[test]
    fn every_class_makes_ordered_points_in_range_with_unique_names() {
        for class in Class::ALL {
            let spec = Spec { class, ..SPEC };
            let mut names = std::collections::BTreeSet::new();
            for series in generate(spec) {
                assert!(series.points.windows(2).all(|pair| pair[0].0 < pair[1].0), "{class:?}");
                let range = spec.start_s * 1_000..(spec.start_s + i64::from(spec.seconds)) * 1_000;
                assert!(series.points.iter().all(|(at, _)| range.contains(at)), "{class:?}");
                assert!(series.tags.is_sorted());
                assert!(names.insert((series.metric, series.tags)), "{class:?}");
            }
        }
    }
}
