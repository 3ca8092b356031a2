//! Where points come from.

pub mod chunks;

pub use chunks::ChunkSource;
