//! `tailors-bench NAME [--quick] [--json]`: what tailors is measured by, its rivals in the same run.
//!
//! In: the name of a benchmark. Out: rows (`report`), as a table for people or as JSON. A rival is measured in the same run where it can be; else its
//! figure was recorded (`../shared/design/rivals.md`) and its name stands in `recorded`. Data comes from a seed or from `fixtures/`.

mod churn;
mod codec;
mod data;
mod import;
mod payload;
mod report;
mod rivals;
mod timing;

use std::error::Error;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Whatever stops a benchmark; it is shown and ends the run.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Benchmarks of tailors, with rivals beside them.
///
/// Examples:
///   tailors-bench codec --quick
///   tailors-bench import --server target/release/tailors --json
#[derive(Parser)]
#[command(name = "tailors-bench", verbatim_doc_comment)]
struct Cli {
    /// What to measure.
    name: Name,
    /// End within 40 s: less data, the same rows with a reach, the same rivals.
    #[arg(long)]
    quick: bool,
    /// An array of rows instead of a table.
    #[arg(long)]
    json: bool,
    /// import: the server to start; default: `tailors` beside this binary.
    #[arg(long)]
    server: Option<PathBuf>,
    /// codec: host metrics at 1 Hz as CSV; default: `fixtures/host-1hz.csv.zst` of the repository.
    #[arg(long)]
    host: Option<PathBuf>,
    /// codec: one data set alone: host, mix, month, fleet, jitter, or churn.
    #[arg(long)]
    only: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Bytes per point of chunk files and the speed of writing and reading them.
    Codec,
    /// Bytes per point in the log and the speed of writing and reading payloads.
    Payload,
    /// Points per CPU-second of a whole server that takes remote write.
    Import,
}

fn main() -> Outcome<()> {
    let cli = Cli::parse();
    let rows = match cli.name {
        Name::Codec => codec::run(&cli.host.unwrap_or_else(data::host_fixture), cli.quick, cli.only.as_deref())?,
        Name::Payload => payload::run(cli.quick)?,
        Name::Import => import::run(cli.server.as_deref(), cli.quick)?,
    };
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", report::table(&rows));
    }
    Ok(())
}
