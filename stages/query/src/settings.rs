//! Settings of the query stage: plain data, each with default, unit and bounds.

/// What one query may cost; every error that stems from one names it and the way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// `query.limits.points_max`: points read by one query. Default 1e9, at least 1.
    pub points_max: u64,
    /// `query.limits.series_max`: series selected by one selector. Default 100,000, at least 1.
    pub series_max: u64,
    /// `query.limits.steps_max`: steps of a range query. Default 11,000, at least 1.
    pub steps_max: u64,
    /// `query.limits.answer_bytes_max`: bytes of one answer. Default 512 MiB.
    pub answer_bytes_max: u64,
    /// `query.limits.memory_bytes_max`: bytes of intermediate results (8 per series and step) that one query holds. Default 1 GiB.
    pub memory_bytes_max: u64,
    /// `query.limits.time_ms_max`: milliseconds of one query; the `timeout` of a request can only shorten it. Default 120,000.
    pub time_ms_max: u64,
    /// `query.limits.lookback_ms`: how far an instant selector looks back. Default 300,000, as Prometheus.
    pub lookback_ms: i64,
    /// `query.limits.experimental_functions`: whether functions are spoken that Prometheus keeps behind `promql-experimental-functions`. Default false.
    pub experimental_functions: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            points_max: 1_000_000_000,
            series_max: 100_000,
            steps_max: 11_000,
            answer_bytes_max: 512 << 20,
            memory_bytes_max: 1 << 30,
            time_ms_max: 120_000,
            lookback_ms: 300_000,
            experimental_functions: false,
        }
    }
}

/// How chunk files are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceSettings {
    /// `query.source.index_cache_bytes`: memory of cached chunk indexes. Default 256 MiB.
    pub index_cache_bytes: u64,
    /// `query.source.snapshot_age_ms_max`: age of the pinned feed number. Default 10,000 (interfaces.md A); smaller in `up`, whose builds are its own.
    pub snapshot_age_ms_max: i64,
    /// `query.source.files_in_flight`: files read and decoded at once. Default 8, at least 1.
    pub files_in_flight: usize,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self { index_cache_bytes: 256 << 20, snapshot_age_ms_max: 10_000, files_in_flight: 8 }
    }
}
