//! What the repository does to itself: tidy checks. `cargo xtask` is an alias of `cargo run -p xtask --`.

mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Checks and long runs of this repository")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// File and function sizes, module headers, no edge between stages, stage order.
    Tidy,
}

fn main() -> ExitCode {
    let Cli { command: Command::Tidy } = Cli::parse();
    let findings = tidy::findings(&tidy::root());
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
