//! Progress of a task with many steps: a bar on a terminal, otherwise occasional lines.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{SHOWN, count, is_live, say};

/// Interval between lines without a terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// Counts steps of any number of threads. Clears the screen when dropped.
pub(crate) struct Counting {
    what: &'static str,
    all: usize,
    done: AtomicUsize,
    output: Output,
}

enum Output {
    Quietly,
    Lines(Mutex<Instant>),
    Bar(ProgressBar),
}

impl Counting {
    /// Counts `all` steps, each called `what`. `quiet` prints nothing.
    pub(crate) fn new(what: &'static str, all: usize, quiet: bool) -> Self {
        let output = match quiet {
            true => Output::Quietly,
            false if is_live() => {
                let multi = MultiProgress::new();
                let style = ProgressStyle::with_template("[{bar:24}] {pos} of {len} {msg}, {eta} left");
                let style = style.expect("the template is valid").progress_chars("=> ");
                let bar = multi.add(ProgressBar::new(all as u64).with_style(style));
                bar.set_message(format!("{what}s"));
                *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(multi);
                Output::Bar(bar)
            }
            false => Output::Lines(Mutex::new(Instant::now())),
        };
        Self { what, all, done: AtomicUsize::new(0), output }
    }

    /// Counts a finished step.
    pub(crate) fn step(&self) {
        let done = 1 + self.done.fetch_add(1, Ordering::Relaxed);
        match &self.output {
            Output::Quietly => {}
            Output::Bar(bar) => bar.inc(1),
            Output::Lines(last) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= PAUSE {
                    say(format!("{done} of {}", count(self.all, self.what)));
                    *last = Instant::now();
                }
            }
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Output::Bar(bar) = &self.output {
            bar.finish_and_clear();
            *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}
