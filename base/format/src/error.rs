//! What can be wrong with bytes; the remedy is always "fix the data" (re-fetch, quarantine, rebuild), so there is one type.

/// Bytes that are not what they claim to be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormatError {
    /// Fewer bytes than the structure needs.
    #[error("{what}: cut short, {needed} bytes needed, {present} present")]
    Truncated {
        /// Which structure.
        what: &'static str,
        /// Bytes it needs.
        needed: u64,
        /// Bytes there are.
        present: u64,
    },
    /// A checksum does not match its bytes.
    #[error("{what}: checksum differs, stored {stored:08x}, computed {computed:08x}")]
    Checksum {
        /// Which structure.
        what: &'static str,
        /// As stored.
        stored: u32,
        /// As computed.
        computed: u32,
    },
    /// Not a file of this kind.
    #[error("{what}: wrong magic")]
    Magic {
        /// Which structure was expected.
        what: &'static str,
    },
    /// A version or enum number this build does not know.
    #[error("{what}: unknown {field} {number}; a newer tailors may have written it")]
    Unknown {
        /// Which structure.
        what: &'static str,
        /// Which field.
        field: &'static str,
        /// The number found.
        number: u64,
    },
    /// Values of one kind where another was asked for.
    #[error("{what}: holds {found}, {wanted} were asked for; ask a series for its kind first")]
    OtherKind {
        /// Which structure.
        what: &'static str,
        /// What it holds.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Structure is whole but says something impossible.
    #[error("{what}: {why}")]
    Invalid {
        /// Which structure.
        what: &'static str,
        /// What is impossible.
        why: String,
    },
}

impl FormatError {
    /// Shorthand for [`FormatError::Invalid`].
    pub fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { what, why: why.into() }
    }
}
