//! Standard error, for everything except data: messages and progress bars.
//!
//! All lines go through [`say`] or a function based on it, so that they appear above visible bars.

mod bars;
mod counting;
mod downloading;
mod labels;
mod packing;
mod page;
mod words;

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use indicatif::MultiProgress;
use nixply_documents::wording;
use nixply_packer::Error;

pub(crate) use self::bars::Bars;
pub(crate) use self::counting::Counting;
pub(crate) use self::downloading::Downloading;
pub(crate) use self::labels::{error, hint, warning};
pub(crate) use self::packing::PackingProgress;
pub(crate) use self::page::Page;
pub(crate) use self::words::{count, human};

/// The visible bars. There is only one screen.
static SHOWN: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Whether standard error is a terminal that supports cursor movement.
pub(crate) fn is_live() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Prints a line of this program, with control characters escaped.
pub(crate) fn say(line: impl AsRef<str>) {
    pass(wording::visible(line.as_ref()).as_bytes());
}

/// Prints lines of another program unchanged.
pub(crate) fn pass(line: impl AsRef<[u8]>) {
    let line = [line.as_ref(), b"\n"].concat();
    // If standard error is closed, the message is lost.
    let write = || drop(io::stderr().write_all(&line));
    match &*SHOWN.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// Prints the lines that another program writes to `stream` as they arrive, and copies them to a file. For programs that run while
/// bars are visible.
pub(crate) fn relay(
    stream: impl Read + Send + 'static,
    mut kept: Option<File>,
) -> Result<JoinHandle<()>, Error> {
    let relay = move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            // Ignore errors of the copy: the user still sees the line.
            kept.iter_mut().for_each(|file| drop(file.write_all(&line)));
            pass(line.strip_suffix(b"\n").unwrap_or(&line));
            line.clear();
        }
    };
    thread::Builder::new().spawn(relay).map_err(|source| Error::Threads { source })
}
