//! What an operator may move; nothing here changes a byte of the output.

/// Settings of one build job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Partitions of the two plans, that is cores used at most; 1 to 256, default 2.
    pub cores: usize,
    /// Bytes of raw file per split, where the reading of an extent may be cut; 1 MiB to 1 GiB, default 32 MiB.
    pub split_bytes: u64,
    /// Bytes fetched by one request, 64 KiB to 8 MiB, default 8 MiB.
    pub fetch_bytes_max: u64,
    /// Raw bytes that are kept between census and build so that one read serves both; 0 never keeps any; default 128 MiB. They are
    /// taken from the job's memory pool, and where that refuses, the build reads again.
    pub keep_raw_bytes_max: u64,
    /// Directory for spilled sorts; the system's temporary directory when none.
    pub spill_dir: Option<std::path::PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cores: 2, split_bytes: 32 << 20, fetch_bytes_max: 8 << 20, keep_raw_bytes_max: 128 << 20, spill_dir: None }
    }
}
