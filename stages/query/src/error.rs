//! Why a query has no answer, by remedy, each with a stable id (docs/errors.md) and Prometheus' words for it.

use tailors_model::source::SourceError;

/// A refused or failed query.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueryError {
    /// The request is wrong: fix it. 400 `bad_data`.
    #[error("{text} [{id}]")]
    Bad {
        /// Stable id.
        id: &'static str,
        /// What is wrong.
        text: String,
    },
    /// The query cannot be evaluated on this data, or exceeds a limit: change it. 422 `execution`.
    #[error("{text} [{id}]")]
    Execution {
        /// Stable id.
        id: &'static str,
        /// What is wrong.
        text: String,
    },
    /// The time limit is over. 503 `timeout`.
    #[error("{0} [{id}]", id = TIME)]
    Timeout(String),
    /// Stored data is missing or corrupt: fix the data, or ask with `partial=true`. 500 `internal`.
    #[error("{0} [{id}]", id = DATA)]
    Data(String),
    /// The store does not answer: try again. 503 `unavailable`.
    #[error("{0} [{id}]", id = STORE)]
    Unavailable(String),
}

/// The query does not parse.
pub const PARSE: &str = "TLR-2001";
/// A parameter of the request is missing or wrong.
pub const PARAMETER: &str = "TLR-2002";
/// A function, aggregation or modifier that this evaluator does not know.
pub const UNKNOWN: &str = "TLR-2003";
/// No org in the request: the middleware is missing.
pub const NO_ORG: &str = "TLR-2005";
/// A read limit of the source (points or series).
pub const READ: &str = "TLR-2010";
/// `query.limits.steps_max`.
pub const STEPS: &str = "TLR-2012";
/// `query.limits.answer_bytes_max`.
pub const ANSWER: &str = "TLR-2013";
/// `query.limits.memory_bytes_max`.
pub const MEMORY: &str = "TLR-2014";
/// `query.limits.time_ms_max` or the request's `timeout`.
pub const TIME: &str = "TLR-2015";
/// Two results with the same label set.
pub const DUPLICATE: &str = "TLR-2020";
/// Vector matching finds several partners.
pub const MATCHING: &str = "TLR-2021";
/// An argument has a value that the function cannot take.
pub const ARGUMENT: &str = "TLR-2022";
/// Stored data is missing or corrupt.
pub const DATA: &str = "TLR-2030";
/// The store does not answer.
pub const STORE: &str = "TLR-2031";

impl QueryError {
    /// Shorthand for [`QueryError::Bad`].
    pub fn bad(id: &'static str, text: impl Into<String>) -> Self {
        Self::Bad { id, text: text.into() }
    }

    /// Shorthand for [`QueryError::Execution`].
    pub fn execution(id: &'static str, text: impl Into<String>) -> Self {
        Self::Execution { id, text: text.into() }
    }

    /// HTTP status and Prometheus' `errorType`.
    pub fn status(&self) -> (u16, &'static str) {
        match self {
            Self::Bad { .. } => (400, "bad_data"),
            Self::Execution { .. } => (422, "execution"),
            Self::Timeout(_) => (503, "timeout"),
            Self::Data(_) => (500, "internal"),
            Self::Unavailable(_) => (503, "unavailable"),
        }
    }
}

impl From<SourceError> for QueryError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Limit(text) => Self::execution(READ, text),
            SourceError::Data(text) => Self::Data(text),
            SourceError::Retry(text) => Self::Unavailable(text),
        }
    }
}
