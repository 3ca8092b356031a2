//! The command line: what each command takes, with examples. No logic.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Exit codes, shown below `--help`.
const EXIT_CODES: &str = "Exit codes: 0 done · 1 the answer is no (verify found a difference, build found no seal, import had points refused) \
                          · 2 wrong arguments, settings, key or query · 3 store, log or server can't be reached or is damaged · 4 the data directory is in use · 5 an fsync failed";

#[derive(Parser, Debug)]
#[command(name = "tailors", version, about = "Keeps every metric point at one-second resolution on your own object storage", after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Log lines as JSON.
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Runs every role in one process.
    #[command(after_help = "Example: tailors up --data ./data --set build.cores=2")]
    Up(Up),
    /// Makes, lists and revokes API keys.
    #[command(after_help = "Example: tailors key create --org 1 --scope write,query --data ./data")]
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Sends a CSV (timestamp,metric,tags,value; plain or .zst) or .rw file by remote write to a running `up`.
    #[command(after_help = "Example: tailors import host-1hz.csv.zst --data ./data --at 2026-11-20T16:00:00Z")]
    Import(Import),
    /// Declares a window's data so far: what the log holds now is built and shown; later points make a later generation.
    #[command(after_help = "Example: tailors seal --window 2026-11-20T16:00:00Z --data ./data")]
    Seal(WindowArgs),
    /// Builds a sealed window by hand; `up` does it by itself.
    #[command(after_help = "Example: tailors build --window 2026-11-20T16:00:00Z --shard mod-0064-0001 --data ./data")]
    Build {
        #[command(flatten)]
        window: WindowArgs,
        /// One shard, e.g. mod-0064-0001; all of them without.
        #[arg(long)]
        shard: Option<String>,
    },
    /// Puts the six windows of a day into one file by hand; `up` does it by itself an hour after the last of them was built.
    #[command(after_help = "Example: tailors compact --day 2026-11-20 --data ./data")]
    Compact {
        /// The day (UTC), e.g. 2026-11-20.
        #[arg(long)]
        day: String,
        /// One shard, e.g. mod-0064-0001; all of them without.
        #[arg(long)]
        shard: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Asks in PromQL; shows a table and a small chart.
    #[command(after_help = "Example: tailors query 'sum by (cpu) (rate(system_cpu_user[1m]))' --start -1h --end now --step 10s")]
    Query(Query),
    /// Windows x shards: captured to, seal, generation, points, duplicates, bytes per point.
    #[command(after_help = "Example: tailors status --data ./data --json")]
    Status {
        #[command(flatten)]
        target: Target,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what is in one of our files (chunk, raw file, log segment, document), and what the bytes of a chunk file go to.
    #[command(
        after_help = "Encodings of a chunk file: const: in the index · integers · 1e-2: hundredths · 2^-4: sixteenths · f64: doubles · dictionary · x4: multiples of 4 · \
                      delta: differences · pco32 pco64 bytes raw: how the integers are written · same: pages of an earlier metric\n\
                      Example: tailors inspect data/store/0a1b/chunk/v1/mod-0064-0001/1795132800/000001/a1/0000.tchk"
    )]
    Inspect {
        /// The file.
        file: PathBuf,
        /// One metric of a chunk file in detail: encodings, tag keys and how many values each has.
        #[arg(long)]
        metric: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Writes stored points as one Parquet file that DuckDB, pyarrow, Spark and others read.
    #[command(
        after_help = "Columns: org, metric, tags (map of lists; a bare tag is null), timestamp (UTC), value, kind, unit, interval_s, series; docs/export.md\n\
                      Example: tailors export --parquet cpu.parquet --metric 'system_cpu_*' --from -1d --data ./data"
    )]
    Export(Export),
    /// Joins what was sent one-to-one with what is stored; exits 1 unless missing, extra, different and stored twice are all zero.
    #[command(after_help = "Example: tailors verify --truth points.csv.zst --org 1 --data ./data")]
    Verify(Verify),
    /// Writes seeded synthetic data, which is its own truth.
    #[command(
        after_help = "Classes: hosts processes containers counters gauges mantissa mix month fleet\nExample: tailors generate --class hosts --seed 1 --out points.csv.zst"
    )]
    Generate(Generate),
    /// Checks whether an object store keeps the promises the commit protocol needs.
    #[command(after_help = "Example: tailors doctor --store data/store")]
    Doctor {
        /// A directory that is there.
        #[arg(long)]
        store: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Up {
    /// Data directory; made if it is not there.
    #[arg(long, default_value = "./data")]
    pub(crate) data: PathBuf,
    /// Address to listen on.
    #[arg(long)]
    pub(crate) listen: Option<SocketAddr>,
    /// Settings file; without it DIR/tailors.toml, if there is one.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// One setting, e.g. build.enabled=false; may be given again.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Let a new data directory begin at this time and run on from there.
    #[arg(long)]
    pub(crate) now: Option<String>,
    /// Start in spite of damage in what the log had fsynced; what can't be read is an explicit hole.
    #[arg(long)]
    pub(crate) accept_log_damage: bool,
    /// Go on where the log starts behind what is captured; what is gone is an explicit hole.
    #[arg(long)]
    pub(crate) accept_holes: bool,
    /// Listen beyond loopback without TLS: keys and points travel in the clear.
    #[arg(long)]
    pub(crate) insecure_listen: bool,
}

/// Whom a command talks to.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// Data directory; default ./data when no --url is given.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// A server, e.g. http://127.0.0.1:7878.
    #[arg(long, env = "TAILORS_URL")]
    pub(crate) url: Option<String>,
    /// Key for it.
    #[arg(long, env = "TAILORS_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum KeyCommand {
    /// Makes a key and prints it alone on stdout; it is shown once.
    #[command(after_help = "Example: tailors key create --org 1 --scope write,query --data ./data")]
    Create {
        #[command(flatten)]
        target: Target,
        /// Org of the key; none for an admin key.
        #[arg(long)]
        org: Option<u32>,
        /// write, query, admin, metrics, backfill.
        #[arg(long, value_delimiter = ',', default_value = "write,query")]
        scope: Vec<String>,
        /// End of validity, e.g. 2027-01-01T00:00:00Z.
        #[arg(long)]
        expires: Option<String>,
    },
    /// Lists keys without their text.
    #[command(after_help = "Example: tailors key list --data ./data")]
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Revokes a key within 30 s.
    #[command(after_help = "Example: tailors key revoke 0123456789ab --data ./data")]
    Revoke {
        #[command(flatten)]
        target: Target,
        /// Id as `list` shows it, or the key.
        id: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The file.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Send the file's first second as this time.
    #[arg(long)]
    pub(crate) at: Option<String>,
    /// Points per second.
    #[arg(long)]
    pub(crate) rate: Option<u64>,
    /// Send with the backfill key, for points older than 10 days.
    #[arg(long)]
    pub(crate) backfill: bool,
}

#[derive(Args, Debug)]
pub(crate) struct WindowArgs {
    /// Start of the window, e.g. 2026-11-20T16:00:00Z.
    #[arg(long)]
    pub(crate) window: String,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Args, Debug)]
pub(crate) struct Query {
    /// PromQL.
    pub(crate) query: String,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Start: RFC 3339, Unix seconds, -1h, now.
    #[arg(long, default_value = "-1h", allow_hyphen_values = true)]
    pub(crate) start: String,
    /// End.
    #[arg(long, default_value = "now", allow_hyphen_values = true)]
    pub(crate) end: String,
    /// Distance between points; a 100th of the range without.
    #[arg(long)]
    pub(crate) step: Option<String>,
    /// The server's answer as it is.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// timestamp,series,value.
    #[arg(long)]
    pub(crate) csv: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Parquet file to write; it appears when it is whole.
    #[arg(long, value_name = "OUT")]
    pub(crate) parquet: PathBuf,
    /// Data directory whose store is read; `up` may be running.
    #[arg(long, default_value = "./data")]
    pub(crate) data: PathBuf,
    /// A store instead of a data directory.
    #[arg(long, conflicts_with = "data")]
    pub(crate) store: Option<PathBuf>,
    /// One chunk file (.tchk) instead.
    #[arg(long, conflicts_with_all = ["data", "store"])]
    pub(crate) file: Option<PathBuf>,
    /// Org; all of them without.
    #[arg(long)]
    pub(crate) org: Option<u32>,
    /// Metric name, or its beginning and a `*`; may be given again. All metrics without.
    #[arg(long, value_name = "NAME|PREFIX*")]
    pub(crate) metric: Vec<String>,
    /// First time: RFC 3339, Unix seconds, -1h, now.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// End, exclusive.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
    /// Replace OUT if it is there.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// What was sent: CSV (plain or .zst) or .rw.
    #[arg(long)]
    pub(crate) truth: PathBuf,
    /// Data directory whose store is read.
    #[arg(long, default_value = "./data")]
    pub(crate) data: PathBuf,
    /// A store instead of a data directory.
    #[arg(long, conflicts_with = "data")]
    pub(crate) store: Option<PathBuf>,
    /// The file's first second was sent as this time; without, as `import` kept it.
    #[arg(long)]
    pub(crate) at: Option<String>,
    /// Org.
    #[arg(long, default_value_t = 1)]
    pub(crate) org: u32,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Generate {
    /// hosts, containers, counters, gauges, mantissa, mix, month or fleet.
    #[arg(long)]
    pub(crate) class: String,
    /// Equal seeds give equal data.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Series.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) series: u32,
    /// Seconds covered.
    #[arg(long, default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// Seconds between points.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) step: u32,
    /// First second; default the full hour before now.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) start: Option<String>,
    /// File to write: .csv or .csv.zst.
    #[arg(long)]
    pub(crate) out: PathBuf,
}
