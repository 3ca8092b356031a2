//! What can go wrong with an object, by remedy; and which of the store's own errors is which.

use tailors_format::FormatError;

use super::local::LocalError;

/// Why a request on the store failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store did not answer in time; try again later. The outcome of a write is unknown.
    #[error("the store does not answer: {0}")]
    Retry(String),
    /// The object (named) is absent where it must be present.
    #[error("{0} is not in the store")]
    NotFound(String),
    /// The bytes of an object are not what they claim to be: fix the data.
    #[error("{key}: {error}")]
    Data {
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        error: FormatError,
    },
    /// Somebody else owns what this call wanted to write: drop it and read anew.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The credentials do not allow it; never retried.
    #[error("the store denies access: {0}")]
    Denied(String),
    /// A bug or a broken disk: the process must stop using this store.
    #[error("{0}")]
    Fatal(String),
}

impl StoreError {
    /// Shorthand for [`StoreError::Data`].
    pub fn data(key: &str, error: FormatError) -> Self {
        Self::Data { key: key.to_owned(), error }
    }

    /// Whether the same request may work later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Retry(_))
    }

    /// Sorts an error of the store itself; what is unknown counts as transient.
    pub(crate) fn from_store(key: &str, error: object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::NotFound { .. } => Self::NotFound(key.to_owned()),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied(format!("{key}: {error}")),
            E::InvalidPath { .. } | E::NotSupported { .. } | E::NotImplemented { .. } | E::UnknownConfigurationKey { .. } => {
                Self::Fatal(format!("{key}: {error}"))
            }
            E::Generic { source, store } => match source.downcast_ref::<LocalError>() {
                Some(LocalError::Io(error)) => Self::Retry(format!("{key}: {error}")),
                Some(LocalError::Empty) => Self::data(key, FormatError::Truncated { what: "object", needed: 1, present: 0 }),
                Some(LocalError::Poisoned | LocalError::ReadOnly | LocalError::Refused(_)) => Self::Fatal(format!("{key}: {source}")),
                None => Self::Retry(format!("{key}: {store}: {source}")),
            },
            other => Self::Retry(format!("{key}: {other}")),
        }
    }
}

/// Whether text is a key or prefix of ours: `[a-z0-9/=_.-]`, no empty and no dot segment, so that it can never leave the store; says why not.
pub(crate) fn check_key(key: &str) -> Result<(), String> {
    let plain = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/=_.-".contains(&byte));
    let segments = key.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    if plain && segments && key.len() <= 1_024 { Ok(()) } else { Err(format!("{key:?} is not a key of this store")) }
}
