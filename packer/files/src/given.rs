//! Reads documents that the user names on a command line: files, symlinks (`result`), and the names that a shell passes for
//! streams (`<(...)`, `/dev/stdin`, a FIFO). No document makes a program wait forever or fills its memory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::open;

/// Maximum size of a document, in bytes.
pub const MAX_BYTES: u64 = open::MAX_BYTES;

/// Maximum time to wait for a FIFO's writer.
const WRITER_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval at which a waiting call checks `stopped`.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Returns true once the user has interrupted the program.
pub type Stopped<'s> = &'s (dyn Fn() -> bool + Sync);

/// Reads a document as text.
///
/// # Errors
///
/// Fails if the document cannot be read, is a directory, a socket or a block device, has more than [`MAX_BYTES`] or a NUL
/// byte, or is a FIFO that no process writes to. The error is [`io::ErrorKind::Interrupted`] once `stopped` is true.
pub fn text(path: &Path, stopped: Stopped<'_>) -> io::Result<String> {
    as_text(read(path, Content::Text, stopped)?)
}

/// Reads a document that need not be text. Its errors are those of [`text()`].
pub fn bytes(path: &Path, stopped: Stopped<'_>) -> io::Result<Vec<u8>> {
    read(path, Content::Any, stopped)
}

/// Reads standard input as text. Its errors are those of [`text()`].
pub fn standard_input(stopped: Stopped<'_>) -> io::Result<String> {
    as_text(read_standard_input(Content::Text, stopped)?)
}

fn as_text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to() + 1;
        invalid(format!("it is not text (UTF-8): byte {byte} is not part of a character"))
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Text,
    Any,
}

/// Whether a read may wait, and the meaning of an end of file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// Reads never wait.
    Never,
    /// Reads never wait, and report the end of file until the first writer has opened the FIFO.
    ForWriter,
    /// Reads wait, so the caller polls for data first.
    Always,
}

fn read(path: &Path, content: Content, stopped: Stopped<'_>) -> io::Result<Vec<u8>> {
    // A socket cannot be opened by these names, but it can be read as standard input.
    if ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"].iter().any(|name| path == Path::new(name)) {
        return read_standard_input(content, stopped);
    }
    let file = match rustix::fs::open(path, open::READ, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NXIO) => return Err(open::not_regular("a socket or device")),
        Err(error) => return Err(error.into()),
    };
    let kind = file.metadata()?.file_type();
    let waits = match kind {
        _ if kind.is_dir() => return Err(open::not_regular("a directory")),
        _ if kind.is_block_device() => return Err(open::not_regular("a block device")),
        _ if kind.is_fifo() && !is_pipe(&file, path) => Waits::ForWriter,
        _ => Waits::Never,
    };
    read_to_end(&file, waits, content, stopped)
}

fn read_standard_input(content: Content, stopped: Stopped<'_>) -> io::Result<Vec<u8>> {
    // Other processes share standard input, so it must not become non-blocking.
    let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    if file.metadata()?.is_dir() {
        return Err(open::not_regular("a directory"));
    }
    read_to_end(&file, Waits::Always, content, stopped)
}

/// Whether an open FIFO is a shell's `<(...)` or `|`, which has no name: its writer opened it earlier.
fn is_pipe(file: &File, path: &Path) -> bool {
    match fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())) {
        Ok(target) => target.as_os_str().as_encoded_bytes().starts_with(b"pipe:"),
        Err(_) => path.starts_with("/dev/fd"),
    }
}

fn read_to_end(mut file: &File, waits: Waits, content: Content, stopped: Stopped<'_>) -> io::Result<Vec<u8>> {
    let begin = Instant::now();
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    let is_ready = || {
        let mut polled = [PollFd::new(file, PollFlags::IN)];
        match poll(&mut polled, Some(&PAUSE)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(io::Error::from(error)),
        }
    };
    loop {
        if stopped() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if waits == Waits::Always && !is_ready()? {
            continue;
        }
        let read = match file.read(&mut chunk) {
            Ok(0) if waits == Waits::ForWriter && bytes.is_empty() => {
                if begin.elapsed() >= WRITER_TIMEOUT {
                    let why = format!(
                        "it is a FIFO, and no process has written to it for {} s",
                        WRITER_TIMEOUT.as_secs()
                    );
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                thread::sleep(Duration::from_millis(10));
                continue;
            }
            Ok(0) => return Ok(bytes),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                is_ready()?;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if content == Content::Text && memchr::memchr(0, &chunk[..read]).is_some() {
            return Err(invalid("it is not text: it has a NUL byte"));
        }
        bytes.extend_from_slice(&chunk[..read]);
        if bytes.len() as u64 > MAX_BYTES {
            let why = format!("it is larger than {} MiB, the maximum size of a document", MAX_BYTES >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
    }
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    fn why(path: &Path) -> String {
        text(path, &|| false).unwrap_err().to_string()
    }

    #[test]
    fn files_links_and_pipes_are_documents() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "{}").unwrap();
        symlink("file", path("result")).unwrap();
        for name in ["file", "result"] {
            assert_eq!(text(&path(name), &|| false).unwrap(), "{}");
        }
        // The form of `<(...)`, with a writer that ends before or during the read.
        for late in [false, true] {
            let (reader, mut writer) = io::pipe().unwrap();
            let name = format!("/dev/fd/{}", reader.as_raw_fd());
            thread::scope(|scope| {
                let read = scope.spawn(|| text(Path::new(&name), &|| false));
                if late {
                    thread::sleep(Duration::from_millis(50));
                }
                writer.write_all(b"[1]").unwrap();
                drop(writer);
                assert_eq!(read.join().unwrap().unwrap(), "[1]");
            });
        }
        let (reader, writer) = io::pipe().unwrap();
        drop(writer);
        assert_eq!(text(Path::new(&format!("/dev/fd/{}", reader.as_raw_fd())), &|| false).unwrap(), "");
        assert_eq!(text(Path::new("/dev/null"), &|| false).unwrap(), "");
    }

    #[test]
    fn a_fifo_is_read_once_it_has_a_writer_and_waiting_is_limited() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        thread::scope(|scope| {
            let read = scope.spawn(|| text(&fifo, &|| false));
            thread::sleep(Duration::from_millis(30));
            fs::write(&fifo, "text").unwrap();
            assert_eq!(read.join().unwrap().unwrap(), "text");
        });
        let asked = AtomicUsize::new(0);
        let interrupted = text(&fifo, &|| asked.fetch_add(1, Ordering::Relaxed) > 3).unwrap_err();
        assert_eq!(interrupted.kind(), io::ErrorKind::Interrupted);
        assert_eq!(why(&fifo), "it is a FIFO, and no process has written to it for 5 s");
    }

    #[test]
    fn endless_and_binary_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        assert_eq!(why(Path::new("/dev/zero")), "it is not text: it has a NUL byte");
        assert_eq!(why(directory.path()), "it is a directory, not a regular file");
        assert_eq!(why(&directory.path().join("socket")), "it is a socket or device, not a regular file");
        fs::write(directory.path().join("latin"), b"\"\xe4\"").unwrap();
        assert_eq!(
            why(&directory.path().join("latin")),
            "it is not text (UTF-8): byte 2 is not part of a character"
        );
        let huge = directory.path().join("huge");
        File::create(&huge).unwrap().set_len(MAX_BYTES + 1).unwrap();
        let error = bytes(&huge, &|| false).unwrap_err().to_string();
        assert_eq!(error, "it is larger than 512 MiB, the maximum size of a document");
    }
}
