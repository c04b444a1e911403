//! Data that a command writes: to standard output or to a file that the user names. Every command that writes a file does it here.
//!
//! ```text
//! place ───────> replace | descriptor
//! where a path   a regular file, as a whole or not at all;
//! leads          a descriptor, a device or a FIFO, directly
//! ```

mod descriptor;
mod place;
mod replace;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use anyhow::{Context, Error, Result};

pub(crate) use self::descriptor::guard;
use self::place::Place;
use crate::process::Blocking;

/// Data that cannot be written. The exit code is 2.
#[derive(Debug)]
pub(crate) struct Unwritten(String);

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Unwritten {}

/// Returns the error for an output that cannot be written.
pub(crate) fn unwritten(what: impl fmt::Display) -> Unwritten {
    Unwritten(format!("cannot write {what}"))
}

/// Returns an [`Unwritten`] with this message.
pub(crate) fn unusable(what: String) -> Unwritten {
    Unwritten(what)
}

/// Writes data to standard output.
pub(crate) fn print(data: impl AsRef<[u8]>) -> Result<()> {
    let _blocking = Blocking::begin()?;
    descriptor::write_stdout(data.as_ref()).with_context(|| unwritten("standard output"))
}

/// Writes a file. Without a path, or for `-`, writes to standard output.
///
/// Follows links. Replaces a regular file atomically and keeps its mode, owner and group. Writes directly to devices, FIFOs, and
/// descriptors such as /dev/stdout.
pub(crate) fn write(path: Option<&Path>, bytes: &[u8]) -> Result<()> {
    match path.filter(|path| *path != Path::new("-")) {
        None => print(bytes),
        Some(path) => write_file(path, bytes),
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || unwritten(path.display());
    match Place::of(path).with_context(failed)? {
        Place::File(file, old) => replace::write(&file, old.as_ref(), bytes).with_context(failed),
        Place::Stream(stream) => {
            let _blocking = Blocking::begin()?;
            replace::append(&stream, bytes).with_context(failed)
        }
        Place::Descriptor(number) => {
            let _blocking = Blocking::begin()?;
            descriptor::write(number, bytes).with_context(failed)
        }
    }
}

/// Adds data to a file that other programs add to as well, such as the summary of a CI run.
pub(crate) fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    replace::append(path, bytes).with_context(|| unwritten(path.display()))
}

/// Creates a file atomically. Returns false, and changes nothing, if the path exists already.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<bool> {
    match replace::create(path, bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::from(error).context(unwritten(path.display()))),
    }
}

/// Whether a path leads to a regular file. Only these have a previous content that an update can read.
pub(crate) fn is_file(path: &Path) -> bool {
    matches!(Place::of(path), Ok(Place::File(_, Some(_))))
}
