//! Bytes at rest <-> values, for every kind of file; one page each in `docs/formats/`.
//!
//! In: values or bytes of outside origin. Out: bytes or values, or a typed error. Invariants (formats.md): same input gives same bytes on any machine;
//! every byte is under a CRC32C seeded with what it is; every prefix and every flipped bit is an error, never a wrong value; nothing is
//! allocated that the bytes present don't pay for. Pure: no I/O, no clock, no randomness. Killed here: nothing is lost, nothing was kept.

pub mod bytes;
pub mod chunk;
pub mod doc;
pub mod error;
pub mod key;
pub mod payload;
mod pieces;
pub mod raw;
pub mod sniff;
pub mod version;

pub use error::FormatError;
