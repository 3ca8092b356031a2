//! Progress bars of long commands; silent where stderr is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts points.
pub(crate) fn points(name: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_prefix(name);
    // The template is a constant; a bar without a style is still a bar.
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {human_pos}/{human_len} points  {per_sec}  eta {eta}") {
        bar.set_style(style);
    }
    bar
}
