//! `cargo xtask fuzz`: coverage-guided search of every decoder with libFuzzer on the stable compiler, without a sanitizer: the code is safe Rust,
//! so what there is to find are panics, hangs and memory, and those show without one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `cargo fuzz -s none` passes too: counters and compares for libFuzzer.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Of the corpus, what is worth its place in the repository.
const KEPT_BYTES_MAX: u64 = 2_048;
const KEPT_FILES_MAX: usize = 40;

/// What to search, and for how long.
#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// Minutes by the clock per target; on a busy machine the search gets less of a core than that.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// One target only.
    #[arg(long)]
    target: Option<String>,
    /// Put the smallest inputs that together reach everything reached into fuzz/corpus.
    #[arg(long)]
    keep: bool,
}

/// Builds and runs; an error names the input that was found.
pub(crate) fn run(root: &Path, wanted: &Fuzz) -> Result<(), String> {
    let work = root.join("target/fuzz");
    let binary = build(root, &work)?;
    let mut failed = Vec::new();
    for name in target_names(root)?.iter().filter(|name| wanted.target.as_ref().is_none_or(|one| one == *name)) {
        let corpus = work.join("corpus").join(name);
        make_dir(&corpus)?;
        make_dir(&work.join("found"))?;
        let kept = root.join("fuzz/corpus").join(name);
        make_dir(&kept)?;
        println!("fuzz {name}: {} minutes", wanted.minutes);
        let seconds = (wanted.minutes * 60.0).ceil().max(1.0) as u64;
        let status = Command::new(&binary)
            .env("TAILORS_FUZZ_TARGET", name)
            .env("TAILORS_FUZZ_SEEDS", &corpus)
            .args([&corpus, &kept])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/{name}-", work.join("found").display()))
            .args(["-rss_limit_mb=512", "-timeout=5", "-max_len=8192", "-print_final_stats=1", "-print_funcs=0", "-verbosity=0"])
            .status()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        if !status.success() {
            failed.push(name.clone());
        } else if wanted.keep {
            keep(&binary, name, &corpus, &kept)?;
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("found something in {}: {}", failed.join(", "), work.join("found").display())) }
}

fn make_dir(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn build(root: &Path, work: &Path) -> Result<PathBuf, String> {
    let built = Command::new(env!("CARGO"))
        .current_dir(root)
        .env("RUSTFLAGS", RUSTFLAGS)
        .env("CARGO_TARGET_DIR", work)
        // With a target named, build scripts and macros are left alone.
        .args(["build", "--release", "--locked", "--target", TRIPLE, "-p", "tailors-fuzz", "--features", "libfuzzer"])
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    let binary = work.join(TRIPLE).join("release/fuzz");
    if built.success() { Ok(binary) } else { Err("the fuzz binary does not build; it needs g++".to_owned()) }
}

/// The names in fuzz/src/lib.rs.
fn target_names(root: &Path) -> Result<Vec<String>, String> {
    let path = root.join("fuzz/src/lib.rs");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let names: Vec<String> = text.split("Target { name: \"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect();
    if names.is_empty() { Err(format!("{}: no targets", path.display())) } else { Ok(names) }
}

/// Replaces the kept corpus by a minimal one: libFuzzer merges into a new directory, of which the small files stay.
fn keep(binary: &Path, name: &str, corpus: &Path, kept: &Path) -> Result<(), String> {
    let merged = corpus.with_extension("merged");
    let _ = fs::remove_dir_all(&merged);
    make_dir(&merged)?;
    let status = Command::new(binary)
        .env("TAILORS_FUZZ_TARGET", name)
        .arg("-merge=1")
        .args([&merged, corpus, kept])
        .status()
        .map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("{name}: the corpus does not merge"));
    }
    let mut files: Vec<(u64, PathBuf)> =
        read_dir(&merged)?.into_iter().filter_map(|path| Some((fs::metadata(&path).ok()?.len(), path))).collect();
    files.sort();
    for old in read_dir(kept)? {
        fs::remove_file(&old).map_err(|error| format!("{}: {error}", old.display()))?;
    }
    for (_, path) in files.iter().filter(|(bytes, _)| *bytes <= KEPT_BYTES_MAX).take(KEPT_FILES_MAX) {
        let to = kept.join(path.file_name().unwrap_or_default());
        fs::copy(path, &to).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    Ok(())
}

fn read_dir(path: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
}
