//! What the repository does to itself: tidy checks, long searches. `cargo xtask` is an alias of `cargo run -p xtask --`.

mod fuzz;
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
    /// Searches every decoder for inputs that panic, hang or take too much memory.
    Fuzz(fuzz::Fuzz),
}

fn main() -> ExitCode {
    let root = tidy::root();
    let findings = match Cli::parse().command {
        Command::Tidy => tidy::findings(&root),
        Command::Fuzz(wanted) => fuzz::run(&root, &wanted).err().into_iter().collect(),
    };
    for finding in &findings {
        eprintln!("xtask: {finding}");
    }
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
