//! Progress of long work, on the terminal only: a report that is piped into a file contains none of it.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `length` steps with rate and time left.
pub fn bar(length: u64, what: &'static str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg:>22} {wide_bar} {human_pos}/{human_len} {per_sec} eta {eta}")
            .expect("the template is valid");
    ProgressBar::new(length).with_style(style).with_message(what)
}

/// A spinner for work without steps.
pub fn spinner(what: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(std::time::Duration::from_millis(100));
    spinner
}
