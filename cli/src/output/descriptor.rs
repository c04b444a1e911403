//! Descriptors that the program was started with: standard output, and others that a path such as /dev/fd/3 names.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Whether standard output was closed when the program started.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Looks before `main`: there, Rust has put /dev/null in the place of a closed descriptor, and all that is written is lost in
/// silence.
// SAFETY: it makes one system call and stores its result, and needs nothing of the standard library, which is not set up yet.
#[ctor::ctor(unsafe)]
fn look() {
    CLOSED.store(rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err(), Ordering::Relaxed);
}

/// Lets nobody write to a closed standard output, other programs that this one runs included: it becomes a descriptor that is
/// for reading alone, as glibc makes it for programs with more rights than their caller.
pub(crate) fn guard() {
    if CLOSED.load(Ordering::Relaxed)
        && let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    {
        // If it fails, this program still knows that it was closed.
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

/// Writes to standard output. Not through std's, to which a closed one is as good as any.
pub(super) fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    if CLOSED.load(Ordering::Relaxed) {
        return Err(io::Error::other("it is closed"));
    }
    write_all(io::stdout(), bytes)
}

/// Writes to the descriptor of this number, which the program was started with: from where it stands, after what others have
/// written there.
pub(super) fn write(number: i32, bytes: &[u8]) -> io::Result<()> {
    match number {
        1 => write_stdout(bytes),
        2 => write_all(io::stderr(), bytes),
        _ => write_all(inherited(number)?, bytes),
    }
}

/// Writes all of it, also where the descriptor does not wait by itself because a program that shares it does not want to.
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
            Err(Errno::BADF) => return Err(io::Error::other("it is closed, or open for reading alone")),
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
        // One that this program has opened itself: a file of the cache, perhaps. To the user there is none.
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

/// Where there is no /proc, opening /dev/fd/N gives a duplicate.
#[cfg(not(target_os = "linux"))]
fn inherited(number: i32) -> io::Result<File> {
    std::fs::OpenOptions::new().write(true).open(format!("/dev/fd/{number}"))
}
