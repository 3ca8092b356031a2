//! Payloads as they lie in a log and on the object store: one frame format, two containers.
//!
//! [`frame`] wraps one log record; a log [`segment`] is a row of frames of all partitions with markers between them, a raw [`file`] is extents of frames and a
//! trailer. Capture copies frames from the one to the other after a check. Pages: `docs/formats/{raw,segment}.md`.

pub mod file;
pub mod frame;
pub mod segment;

#[cfg(test)]
mod segment_tests;
#[cfg(test)]
mod tests;
