//! What the repository does to itself: tidy checks, long searches, rivals for its benchmarks. `cargo xtask` is an alias of `cargo run -p xtask --`.

mod fuzz;
mod rivals;
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
    /// Builds VictoriaMetrics and Prometheus for `tailors-bench import` (needs go).
    Rivals,
}

fn main() -> ExitCode {
    let root = tidy::root();
    let findings = match Cli::parse().command {
        Command::Tidy => tidy::findings(&root),
        Command::Fuzz(wanted) => fuzz::run(&root, &wanted).err().into_iter().collect(),
        Command::Rivals => match rivals::install() {
            Ok(installed) => {
                installed.iter().for_each(|path| println!("{}", path.display()));
                Vec::new()
            }
            Err(error) => vec![error],
        },
    };
    for finding in &findings {
        eprintln!("xtask: {finding}");
    }
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
