//! Exit codes: what a script may rely on. Documented in `--help`.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done.
    Ok,
    /// The answer is no: verify found a difference, build found points without a seal, doctor found a broken promise.
    No,
    /// Wrong arguments, settings, key or query (clap uses the same number).
    Usage,
    /// The store, the log or the server could not be reached or is damaged.
    Unavailable,
    /// Another process holds the data directory.
    Locked,
    /// An fsync failed; nothing more may be acknowledged. Restart after the disk is well.
    Fsync,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::No => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 3,
            Exit::Locked => 4,
            Exit::Fsync => 5,
        })
    }
}

/// What a command says when it can't go on: a sentence for people, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Names the thing, the limit and what to do.
    pub(crate) message: String,
    /// Code to end with.
    pub(crate) exit: Exit,
}

impl Failure {
    /// Wrong arguments.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Usage }
    }

    /// Something outside does not answer or is damaged.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Unavailable }
    }

    /// The answer is no.
    pub(crate) fn no(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::No }
    }
}

impl From<tailors_store::objects::StoreError> for Failure {
    fn from(error: tailors_store::objects::StoreError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::unavailable(error.to_string())
    }
}
