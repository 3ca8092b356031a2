//! Answers on stdout. A reader that has seen enough (`| head`) ends a command quietly; any other error of stdout ends it with exit code 3.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stdout};

/// Writes one line.
pub(crate) fn line(text: Arguments<'_>) {
    if let Err(error) = writeln!(stdout(), "{text}") {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("tailors: stdout: {error}");
        std::process::exit(3);
    }
}

/// `println!` that ends the process when nobody listens, instead of panicking.
macro_rules! say {
    ($($part:tt)*) => { $crate::out::line(format_args!($($part)*)) };
}
pub(crate) use say;
