//! The one binary: command line, roles, settings; the only place that wires.
//!
//! In: arguments, settings, a data directory. Out: exit codes and answers. Every command decides once, at its start, whether it talks to a running `up`.

mod admin;
mod cli;
mod client;
mod clock;
mod cmd;
mod datadir;
mod exit;
mod http;
mod node;
mod out;
mod remote_write;
mod settings;
mod time;
mod truth;
mod up;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if matches!(cli.command, Command::Up(_)) { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("TAILORS_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // A log line that can't be written (a full disk) is lost and no more: it must not panic in the thread that wrote it.
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if cli.log_json {
        logs.json().init()
    } else {
        logs.init()
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(Failure::unavailable(error.to_string()))),
    };
    end(runtime.block_on(run(cli.command)))
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(up) => up::run(up).await,
        Command::Key { command } => cmd::key::run(command).await,
        Command::Import(import) => cmd::import_command(import).await,
        Command::Seal(window) => cmd::window::seal(window).await,
        Command::Build { window, shard } => cmd::window::build(window, shard).await,
        Command::Compact { day, shard, target } => cmd::window::compact(&day, shard, target).await,
        Command::Query(query) => cmd::query::run(query).await,
        Command::Status { target, json } => cmd::status::run(target, json).await,
        Command::Inspect { file, metric, json } => cmd::inspect::run(&file, metric.as_deref(), json),
        Command::Export(export) => cmd::export::run(export).await,
        Command::Verify(verify) => cmd::verify_command(verify).await,
        Command::Generate(generate) => cmd::generate::run(&generate),
        Command::Doctor { store } => cmd::doctor::run(&store).await,
    }
}

fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            // Nobody may listen; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "tailors: {}", failure.message);
            failure.exit.into()
        }
    }
}
