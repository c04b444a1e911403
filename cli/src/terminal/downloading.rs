//! Progress of a download: a bar on a terminal, otherwise nothing.

use std::sync::PoisonError;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::words::human;
use super::{SHOWN, is_live};

/// Bytes that are being read. Clears the screen when dropped.
pub(crate) struct Downloading(Option<ProgressBar>);

impl Downloading {
    /// Begins a download of this size. `quiet` shows nothing.
    pub(crate) fn new(size: u64, quiet: bool) -> Self {
        if quiet || !is_live() {
            return Self(None);
        }
        let multi = MultiProgress::new();
        let style = ProgressStyle::with_template("[{bar:24}] {percent:>3} % of {msg}, {eta} left");
        let style = style.expect("the template is valid").progress_chars("=> ");
        let bar = multi.add(ProgressBar::new(size).with_style(style));
        bar.set_message(human(size));
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(multi);
        Self(Some(bar))
    }

    /// Adds bytes.
    pub(crate) fn advance(&self, bytes: u64) {
        self.0.iter().for_each(|bar| bar.inc(bytes));
    }
}

impl Drop for Downloading {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
            *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}
