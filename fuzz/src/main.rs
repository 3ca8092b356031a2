//! The libFuzzer binary: one for all targets, so that there is one link; `TAILORS_FUZZ_TARGET` names the target,
//! `TAILORS_FUZZ_SEEDS` a directory for its seeds. `cargo xtask fuzz` runs it.
#![no_main]

use std::alloc::System;
use std::path::Path;
use std::sync::LazyLock;

use cap::Cap;
use tailors_fuzz::{TARGETS, Target};

/// What a decoder may hold at once, bytes: above it the allocation fails and with it the run.
const ALLOCATED_BYTES_MAX: usize = 256 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, ALLOCATED_BYTES_MAX);

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("TAILORS_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| {
        eprintln!("TAILORS_FUZZ_TARGET names no target: {name:?}");
        std::process::exit(2)
    })
});

/// Puts the target's seeds beside what a search has found before; libFuzzer reads the directory after this.
fn write_seeds() {
    let Ok(directory) = std::env::var("TAILORS_FUZZ_SEEDS") else { return };
    for (number, seed) in (TARGET.seeds)().into_iter().enumerate() {
        let path = Path::new(&directory).join(format!("seed-{number}"));
        std::fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

libfuzzer_sys::fuzz_target!(init: write_seeds(), |data: &[u8]| {
    (TARGET.run)(data);
});
