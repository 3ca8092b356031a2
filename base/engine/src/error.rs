//! Errors of the glue, and the way back out of DataFusion's wrapping.

use std::error::Error;

use datafusion::error::DataFusionError;
use tailors_store::objects::StoreError;

/// Why raw data could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The store does not answer now; try the plan again.
    #[error("{0}")]
    Retry(String),
    /// A raw segment is missing or damaged, after three fetches.
    #[error("{segment}: {why}")]
    Input {
        /// Object key of the segment.
        segment: String,
        /// What is wrong.
        why: String,
    },
    /// The store refuses for good.
    #[error("{0}")]
    Fatal(String),
}

impl EngineError {
    /// Shorthand for [`EngineError::Input`].
    pub fn input(segment: &str, why: impl Into<String>) -> Self {
        Self::Input { segment: segment.to_owned(), why: why.into() }
    }

    /// Sorts an error of the store that came while reading `segment`.
    pub fn of_store(segment: &str, error: StoreError) -> Self {
        match error {
            StoreError::Retry(why) => Self::Retry(why),
            StoreError::NotFound(_) | StoreError::Data { .. } => Self::input(segment, error.to_string()),
            other => Self::Fatal(other.to_string()),
        }
    }
}

impl From<EngineError> for DataFusionError {
    fn from(error: EngineError) -> Self {
        Self::External(Box::new(error))
    }
}

/// The first error of type `E` inside, however operators wrapped it.
pub fn find_error<E: Error + 'static>(error: &DataFusionError) -> Option<&E> {
    let mut at: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        at = error.source();
    }
    None
}

/// Whether memory could not be had from the pool.
pub fn is_out_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}
