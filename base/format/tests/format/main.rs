//! Files of every format as others meet them: golden files kept for ever, equal bytes from any process.
#![allow(clippy::unwrap_used, missing_docs)]

mod chunk_values;
mod determinism;
mod golden_chunk;
mod golden_documents;
mod golden_log;
