//! Inherited descriptors: standard output, and those that a path such as /dev/fd/3 names.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Whether standard output was closed when the program started.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Runs before `main`: by then, Rust has replaced a closed descriptor by /dev/null, and all output would be lost silently.
// SAFETY: it makes one system call and stores the result. It does not use the standard library, which is not initialised yet.
#[ctor::ctor(unsafe)]
fn look() {
    CLOSED.store(rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err(), Ordering::Relaxed);
}

/// Prevents writing to a closed standard output, also by child processes: it becomes a read-only descriptor, like glibc does for
/// setuid programs.
pub(crate) fn guard() {
    if CLOSED.load(Ordering::Relaxed)
        && let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    {
        // If this fails, this program still knows that standard output was closed.
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

/// Writes to standard output. The standard library would ignore that it is closed.
pub(super) fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    if CLOSED.load(Ordering::Relaxed) {
        return Err(io::Error::other("it is closed"));
    }
    write_all(io::stdout(), bytes)
}

/// Writes to an inherited descriptor at its current offset, after the output of other processes.
pub(super) fn write(number: i32, bytes: &[u8]) -> io::Result<()> {
    match number {
        1 => write_stdout(bytes),
        2 => write_all(io::stderr(), bytes),
        _ => write_all(inherited(number)?, bytes),
    }
}

/// Writes all bytes, also to a descriptor that another process has set to non-blocking mode.
pub(super) fn write_all(descriptor: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&descriptor, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&descriptor, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            Err(Errno::BADF) => return Err(io::Error::other("it is closed, or open only for reading")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn inherited(number: i32) -> io::Result<File> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
    if OFlags::from_bits_retain(flags).contains(OFlags::CLOEXEC) {
        // A descriptor that this program opened itself, such as a cache file. For the user it does not exist.
        return Err(Errno::NOENT.into());
    }
    let duplicate = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty()));
    // Linux before 5.6, and containers that forbid the call.
    let reopened = || {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::open(format!("/proc/self/fd/{number}"), flags, Mode::empty())
    };
    Ok(duplicate.or_else(|_| reopened())?.into())
}

/// Without /proc, opening /dev/fd/N returns a duplicate.
#[cfg(not(target_os = "linux"))]
fn inherited(number: i32) -> io::Result<File> {
    std::fs::OpenOptions::new().write(true).open(format!("/dev/fd/{number}"))
}
