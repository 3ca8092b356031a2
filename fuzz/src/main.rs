//! The libFuzzer binary: one for all targets, so that there is one link; `TAILORS_FUZZ_TARGET` names the target. `cargo xtask fuzz` runs it.
#![no_main]

use std::alloc::System;
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

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    (TARGET.run)(data);
});
