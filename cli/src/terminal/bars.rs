//! Progress bars: one per active layer, and one for the total below them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::sync::PoisonError;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};

use super::SHOWN;
use super::words::{human, short};

/// Maximum number of layers with a bar, so that the bars do not fill the screen.
const MAX_BARS: usize = 8;

/// Number of screen updates per second. Events between them are cheap.
const RATE: u8 = 10;

/// Maximum width of [`KNOWN`], in columns.
const WIDTH: u16 = 79;
const KNOWN: &str = "{msg:<18} [{bar:14}] {done:>8} of {all:<8} {rate:>10}  {left}";
const NARROW: &str = "{msg:<16} {done:>8} of {all:<8} {left}";
const UNKNOWN: &str = "{msg:<16} {done:>8} {rate:>10}";

/// Bars on the screen, until they are dropped.
pub(crate) struct Bars {
    multi: MultiProgress,
    total: ProgressBar,
    work: BTreeMap<usize, Work>,
    /// Template and number of bars that fit on the screen.
    known: &'static str,
    most: usize,
}

/// An active layer.
struct Work {
    what: String,
    /// Number of bytes, if it is known.
    expected: Option<u64>,
    bytes: u64,
    /// `None` while the screen has no room for it.
    bar: Option<ProgressBar>,
}

impl Bars {
    /// Creates a bar for the total, whose size is still unknown.
    pub(crate) fn new() -> Self {
        let screen = Screen(Term::buffered_stderr());
        let known = if screen.width() > WIDTH { KNOWN } else { NARROW };
        // Two lines are reserved: for the total, and for the user's command.
        let most = usize::from(screen.height()).saturating_sub(2).clamp(1, MAX_BARS);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen), RATE);
        let multi = MultiProgress::with_draw_target(target);
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(multi.clone());
        let total = multi.add(bar());
        Self { multi, total, work: BTreeMap::new(), known, most }
    }

    /// Sets the label of the total.
    pub(crate) fn name_total(&self, what: String) {
        self.total.set_message(what);
    }

    /// Adds bytes to the expected total.
    pub(crate) fn expect(&self, bytes: u64) {
        self.total.set_length(self.total.length().unwrap_or(0) + bytes);
        self.total.set_style(style(self.known));
    }

    /// Adds bytes to the finished part of the total.
    pub(crate) fn advance_total(&self, bytes: u64) {
        self.total.inc(bytes);
    }

    /// Adds an active layer.
    pub(crate) fn begin(&mut self, layer: usize, what: String, expected: Option<u64>) {
        self.end(layer);
        self.work.insert(layer, Work { what, expected, bytes: 0, bar: None });
        self.fill();
    }

    /// Adds bytes to the finished part of an active layer.
    pub(crate) fn advance(&mut self, layer: usize, bytes: u64) {
        if let Some(work) = self.work.get_mut(&layer) {
            work.bytes += bytes;
            work.bar.iter().for_each(|bar| bar.inc(bytes));
        }
    }

    /// Removes a layer, and returns the number of its finished bytes.
    pub(crate) fn end(&mut self, layer: usize) -> u64 {
        let Some(work) = self.work.remove(&layer) else { return 0 };
        if let Some(bar) = work.bar {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
        self.fill();
        work.bytes
    }

    /// Shows waiting layers while there is room.
    fn fill(&mut self) {
        let shown = self.work.values().filter(|work| work.bar.is_some()).count();
        let free = self.most.saturating_sub(shown);
        for work in self.work.values_mut().filter(|work| work.bar.is_none()).take(free) {
            let bar = bar();
            if let Some(expected) = work.expected {
                bar.set_length(expected);
                bar.set_style(style(self.known));
            }
            let bar = self.multi.insert_before(&self.total, bar.with_position(work.bytes));
            bar.set_message(work.what.clone());
            // Bytes that were finished before the bar appeared must not affect the estimated speed.
            bar.reset_eta();
            work.bar = Some(bar);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // Clear all bars together before they are dropped one by one, which would leave some on the screen.
        let _ = self.multi.clear();
        self.multi.set_draw_target(ProgressDrawTarget::hidden());
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Creates a hidden bar of unknown size. It becomes visible when it is added to the others.
fn bar() -> ProgressBar {
    ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_style(style(UNKNOWN))
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    style
        .progress_chars("=> ")
        .with_key("done", |state: &ProgressState, out: &mut dyn Write| {
            // A tar stream is slightly larger than the archives in it.
            let _ = out.write_str(&human(state.pos().min(state.len().unwrap_or(u64::MAX))));
        })
        .with_key("all", |state: &ProgressState, out: &mut dyn Write| {
            let _ = out.write_str(&human(state.len().unwrap_or(0)));
        })
        .with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{}/s", human(state.per_sec() as u64));
        })
        .with_key("left", |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{} left", short(state.eta()));
        })
}

/// Standard error with the cursor at the start of the last line. indicatif leaves the cursor at the end of the line. There, the
/// `^C` that the terminal echoes when the user interrupts would start another line, which would remain when the bars are cleared.
#[derive(Debug)]
struct Screen(Term);

impl TermLike for Screen {
    fn width(&self) -> u16 {
        TermLike::width(&self.0)
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.0)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_up(lines)
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_down(lines)
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_right(columns)
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_left(columns)
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.0.write_line(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.write_str("\r")?;
        self.0.flush()
    }
}
