//! Builds from outside: raw files in, chunk files and their books out; days of them.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test that can't go on should stop here")]

mod build;
mod day;
