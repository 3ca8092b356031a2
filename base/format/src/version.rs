//! The version of every format, on one screen. What each version changed stands on the format's page, what a reader does with another one in
//! `docs/formats/versions.md`; golden files of each lie in `golden/{format}/{version}/`.

/// Payload: major, minor.
pub const PAYLOAD: (u16, u16) = (1, 0);
/// Raw file: major, minor.
pub const RAW_FILE: (u16, u16) = (1, 0);
/// Log segment.
pub const LOG_SEGMENT: u16 = 1;
/// Chunk file: major, minor. Its encoder has a number too, [`crate::chunk::ENCODER_VERSION`].
pub const CHUNK_FILE: (u16, u16) = crate::chunk::VERSION;

/// The `_format` of a kind of JSON document: kind and major version, which all kinds share until one gets its own, `document_format!("seal", 2)`.
#[macro_export]
macro_rules! document_format {
    ($kind:literal) => {
        $crate::document_format!($kind, 1)
    };
    ($kind:literal, $major:literal) => {
        concat!($kind, "/", $major)
    };
}
