//! Says what takes long, on stderr, where a person watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Runs `work` beside a spinner that says `what`. Where stderr is no terminal, nothing is shown.
pub fn spinning<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    let result = work();
    spinner.finish_and_clear();
    result
}

/// A bar over `steps` steps of `what`. Where stderr is no terminal, nothing is shown.
pub fn bar(what: &str, steps: usize) -> ProgressBar {
    with_template(what, steps as u64, "{msg} {wide_bar} {pos}/{len} {eta}")
}

/// A bar over the thousandths of `what`. Where stderr is no terminal, nothing is shown.
pub fn share_bar(what: &str) -> ProgressBar {
    with_template(what, 1000, "{msg} {wide_bar} {percent} % {eta}")
}

fn with_template(what: &str, steps: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_message(what.to_owned());
    // A template that does not parse would be a mistake here; the library's own bar does as well then.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// A spinner, and what sets its text. Where stderr is no terminal, nothing is shown.
pub fn watching() -> (ProgressBar, impl FnMut(&str)) {
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(100));
    let shown = spinner.clone();
    (spinner, move |what: &str| shown.set_message(what.to_owned()))
}
