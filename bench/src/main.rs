//! Benchmarks against peers come here.
fn main() {}
