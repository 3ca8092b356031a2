//! The outside world with state: the log, the objects, and the protocol documents on them.
//!
//! In: payloads, files, documents. Out: the same, after a crash too. Invariants: protocol.md section 2 (P1, P2, P5; C0..C9). What if killed
//! here: every write is either whole or absent; an acknowledged append is read back after restart.

pub mod auth;
mod bodies;
pub mod catalog;
pub mod chain;
pub mod chunks;
pub mod feed;
pub mod log;
pub mod manifests;
pub mod objects;
pub mod pins;
pub mod plans;
pub mod registry;
pub mod routes;
pub mod seals;

pub use objects::{Objects, PutDoc, PutNew, RetrySettings, StoreError};
