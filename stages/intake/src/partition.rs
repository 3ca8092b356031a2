//! Which partition of the log a payload goes to. Any choice is correct (P4 orders by `received_at_us` first); it only spreads load.

use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use tailors_model::OrgId;

/// How payloads are spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partitioning {
    /// Payloads go round: fewest and largest payloads, even load whatever the data.
    #[default]
    Balanced,
    /// All points of an org's metric go to one partition: a request becomes one payload per partition, for consumers that want metrics together.
    Metric,
}

/// Partition of an org's metric.
pub(crate) fn of_metric(org: OrgId, metric: &[u8], partitions: u32) -> u32 {
    // The remainder is below a u32, so the cast keeps it.
    (xxh3_64_with_seed(metric, u64::from(org.0)) % u64::from(partitions.max(1))) as u32
}

/// Goes round the partitions.
#[derive(Debug, Default)]
pub(crate) struct Rotor(AtomicU64);

impl Rotor {
    /// The next partition.
    pub(crate) fn next(&self, partitions: u32) -> u32 {
        (self.0.fetch_add(1, Ordering::Relaxed) % u64::from(partitions.max(1))) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_is_even_and_metric_is_stable() {
        let rotor = Rotor::default();
        let mut load = [0; 4];
        (0..400).for_each(|_| load[rotor.next(4) as usize] += 1);
        assert_eq!(load, [100; 4]);
        let names: Vec<u32> = (0..1_000).map(|i| of_metric(OrgId(1), format!("m{i}").as_bytes(), 4)).collect();
        assert!((0..4).all(|p| names.iter().filter(|at| **at == p).count() > 150), "spread");
        assert_eq!(of_metric(OrgId(1), b"m", 4), of_metric(OrgId(1), b"m", 4));
        assert_eq!(of_metric(OrgId(1), b"m", 0), 0, "no partition is no panic");
    }
}
