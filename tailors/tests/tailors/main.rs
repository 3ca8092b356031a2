//! The program as its users run it.
#![allow(clippy::disallowed_methods, reason = "these tests wait for another process by the real clock")]

mod day;
mod end_to_end;
mod export;
mod inspect;
mod query;
mod support;
