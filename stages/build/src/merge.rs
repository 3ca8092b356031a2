//! Runs of one series -> its points, each timestamp once, the greatest (received_at_us, epoch, partition, offset, index) wins (P4).

/// Place of a run's first point in the order of equal timestamps (formats.md section 0); the derived order is that order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Order {
    /// Of the payload, Unix microseconds.
    pub received_at_us: i64,
    /// Stream epoch.
    pub epoch: u32,
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: u64,
    /// Position in the payload over all its runs.
    pub index: u32,
}

/// Consecutive points of one series of one payload, as little-endian columns.
#[derive(Clone, Copy, Debug)]
pub struct RunPoints<'a> {
    /// Order of the first point; the others follow it one by one.
    pub order: Order,
    /// u32 each: milliseconds in the window, in the order sent.
    pub timestamps: &'a [u8],
    /// f64 each; twice as long as `timestamps`.
    pub values: &'a [u8],
}

/// Merges the runs of one series into `timestamps` (strictly increasing) and `values`; returns how many points lost to a greater one.
/// The result depends on the set of runs only, not on their order in the slice.
pub fn merge(runs: &mut [RunPoints<'_>], timestamps: &mut Vec<u32>, values: &mut Vec<f64>) -> u64 {
    if !runs.is_sorted_by_key(|run| run.order) {
        runs.sort_unstable_by_key(|run| run.order);
    }
    timestamps.clear();
    values.clear();
    let points = runs.iter().map(|run| run.timestamps.len() / 4).sum();
    timestamps.reserve_exact(points);
    values.reserve_exact(points);
    for run in runs.iter() {
        let (stamps, _) = run.timestamps.as_chunks::<4>();
        timestamps.extend(stamps.iter().map(|bytes| u32::from_le_bytes(*bytes)));
        let (doubles, _) = run.values.as_chunks::<8>();
        values.extend(doubles.iter().map(|bytes| f64::from_le_bytes(*bytes)));
    }
    if timestamps.windows(2).all(|pair| pair[0] < pair[1]) {
        return 0;
    }
    last_wins(timestamps, values)
}

/// Sorts by time and keeps the last of equal timestamps; the points come in P4 order.
fn last_wins(timestamps: &mut Vec<u32>, values: &mut Vec<f64>) -> u64 {
    let mut order: Vec<(u32, u32)> = timestamps.iter().copied().zip(0u32..).collect();
    order.sort_unstable();
    let before = timestamps.len();
    let old = std::mem::take(values);
    timestamps.clear();
    values.reserve_exact(before);
    for (at, (timestamp, position)) in order.iter().enumerate() {
        let beaten = order.get(at + 1).is_some_and(|(next, _)| next == timestamp);
        if !beaten {
            timestamps.push(*timestamp);
            values.push(old[*position as usize]);
        }
    }
    (before - timestamps.len()) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_greatest_order_wins_whatever_the_order_of_runs() {
        // A model: a map filled in P4 order.
        let mut state = 7u64;
        let mut next = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let mut columns = Vec::new();
            for number in 0..next(6) + 1 {
                let points = next(5) + 1;
                let stamps: Vec<u32> = (0..points).map(|_| next(8) as u32).collect();
                let doubles: Vec<f64> = (0..points).map(|at| (number * 100 + at) as f64).collect();
                let order = Order { received_at_us: next(3) as i64, partition: next(2) as u32, offset: number, ..Order::default() };
                columns.push((order, stamps, doubles));
            }
            let mut model = BTreeMap::new();
            let mut sorted = columns.clone();
            sorted.sort_by_key(|column| column.0);
            for (_, stamps, doubles) in &sorted {
                model.extend(stamps.iter().copied().zip(doubles.iter().copied()));
            }
            let bytes: Vec<(Order, Vec<u8>, Vec<u8>)> = columns
                .iter()
                .map(|(order, stamps, doubles)| {
                    (*order, stamps.iter().flat_map(|v| v.to_le_bytes()).collect(), doubles.iter().flat_map(|v| v.to_le_bytes()).collect())
                })
                .collect();
            let mut runs: Vec<RunPoints<'_>> =
                bytes.iter().map(|(order, timestamps, values)| RunPoints { order: *order, timestamps, values }).collect();
            let (mut timestamps, mut values) = (Vec::new(), Vec::new());
            let duplicates = merge(&mut runs, &mut timestamps, &mut values);
            let total: usize = columns.iter().map(|column| column.1.len()).sum();
            assert_eq!(duplicates as usize, total - model.len());
            assert_eq!(timestamps.iter().copied().zip(values.iter().copied()).collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
        }
    }
}
