//! Every decoder of bytes that we did not just write, as a fuzz target.
//!
//! In: any bytes. Invariant: a target ends with a typed error or a value, within its memory; what a decoder accepts, the rest of the reading path
//! takes without a panic. Under `--cfg fuzzing` checksums pass (`tailors_format::bytes::check_crc`), else no mutation would get behind them.
//!
//! `cargo xtask fuzz` searches with libFuzzer; the tests replay seeds and corpus.

mod distributions;
mod files;
mod intake;
mod payload;

/// A decoder under search.
pub struct Target {
    /// Name on the command line and of its corpus.
    pub name: &'static str,
    /// Decodes; says whether the bytes were accepted.
    pub run: fn(&[u8]) -> bool,
    /// Bytes that are accepted, to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets, in the order of a point's path.
pub const TARGETS: &[Target] = &[
    Target { name: "decompress", run: intake::decompress, seeds: intake::decompress_seeds },
    Target { name: "remote_write", run: intake::remote_write, seeds: intake::remote_write_seeds },
    Target { name: "datadog_json", run: intake::datadog, seeds: intake::datadog_seeds },
    Target { name: "payload", run: payload::payload, seeds: payload::payload_seeds },
    Target { name: "payload_round_trip", run: payload::round_trip, seeds: payload::round_trip_seeds },
    Target { name: "log_segment", run: files::segment, seeds: files::segment_seeds },
    Target { name: "raw_file", run: files::raw_file, seeds: files::raw_file_seeds },
    Target { name: "raw_frames", run: files::raw_frames, seeds: files::raw_frames_seeds },
    Target { name: "documents", run: files::documents, seeds: files::documents_seeds },
    Target { name: "chunk_file", run: files::chunk_file, seeds: files::chunk_seeds },
    Target { name: "chunk_round_trip", run: files::chunk_round_trip, seeds: files::chunk_round_trip_seeds },
    Target { name: "sketches", run: distributions::sketches, seeds: distributions::sketch_seeds },
    Target { name: "histograms", run: distributions::histograms, seeds: distributions::histogram_seeds },
];
