//! Where points come from.

pub mod chunks;
mod find;

pub use chunks::ChunkSource;
