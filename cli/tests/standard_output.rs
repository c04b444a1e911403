//! Writing to a standard output that is closed, full or without a reader, and to files and pipes that other processes have open.

#![allow(clippy::print_stderr, reason = "skipped tests say so")]

mod written;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};

use self::written::{PRINTERS, World, Writer, sh, text, users};

const BUILD: Writer = Writer::of(
    "build --quiet --no-cache --closure IN/closure.json --real-store-dir IN/store -o OUT IN/request.json",
);
/// More than the buffer of a pipe.
const LARGE: Writer = Writer::of("n2c image OUT IN/config.json IN/large-layers.json");

/// Runs a command after a shell has redirected its descriptors.
fn redirected(command: &Command, how: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$@\" {how}"), "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn unwritable_standard_output_is_an_error() {
    let world = World::new();
    for (at, line) in PRINTERS.iter().enumerate() {
        for user in users() {
            for (way, (how, why)) in [
                (">&-", "it is closed"),
                ("<&- >&-", "it is closed"),
                ("1</dev/null", "it is closed, or open only for reading"),
                (">/dev/full", "No space left on device (os error 28)"),
            ]
            .into_iter()
            .enumerate()
            {
                let directory = tempfile::tempdir().unwrap();
                fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
                let file = directory.path().join(format!("{at}-{way}"));
                let output = redirected(&world.command(&Writer::of(line), &file, user), how);
                let name = if line.contains("/dev/fd/1") { "/dev/fd/1" } else { "standard output" };
                let said = (output.status.code(), text(&output.stderr));
                let code = if line.starts_with("nix2container") { said.0.unwrap().clamp(1, 2) } else { 2 };
                // The progress messages of n2c image are nix2container's.
                let message = said.1.lines().last().unwrap_or_default();
                assert_eq!(
                    (said.0, message),
                    (Some(code), &*format!("error: cannot write {name}: {why}")),
                    "{line} {how}"
                );
                assert_eq!(said.1.lines().count(), 1, "{line} {how}: {}", said.1);
            }
        }
    }
}

#[test]
fn closed_pipe_ends_the_program_silently() {
    let world = World::new();
    for line in PRINTERS {
        let directory = tempfile::tempdir().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut command = world.command(&Writer::of(line), &directory.path().join("out"), None);
        let output =
            command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(141), ""), "{line}");
    }
}

/// Commands that print nothing accept a closed standard output, and no file that they open takes its descriptor.
#[test]
fn closed_standard_output_is_allowed_without_output() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out");
    for how in [">&-", "<&- >&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"] {
        let output = redirected(&world.command(&BUILD, &file, None), how);
        assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b""[..]), "{how}");
        assert!(fs::read(&file).unwrap() == world.expected(&BUILD, false), "{how}");
        fs::remove_file(&file).unwrap();
    }
    let output = redirected(&world.command(&LARGE, &file, None), "2>/dev/full");
    assert_eq!(output.status.code(), Some(0), "lost messages are not an error");
}

#[test]
fn child_programs_cannot_write_to_closed_standard_output() {
    let world = World::new();
    let skopeo = world.path("skopeo");
    fs::write(&skopeo, "#!/bin/sh\necho printed || exit 9\n").unwrap();
    fs::set_permissions(&skopeo, PermissionsExt::from_mode(0o755)).unwrap();
    for line in ["skopeo --version", "skopeo inspect nix:IN/image.json"] {
        let words = line.replace("IN", world.path("in").to_str().unwrap());
        let mut command = world.program("nixply", &words.split(' ').collect::<Vec<_>>(), None);
        command.env("NIXPLY_SKOPEO", &skopeo);
        assert_eq!(redirected(&command, "").stdout, b"printed\n");
        let output = redirected(&command, ">&-");
        assert_eq!(output.status.code(), Some(9), "{line}: {}", text(&output.stderr));
    }
}

/// Output that other processes have written before stays, and later output follows.
#[test]
fn standard_output_is_written_at_its_offset() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    // A substitute for the link /dev/stdout, which a bug could replace.
    let link = directory.path().join("stdout");
    std::os::unix::fs::symlink("/proc/self/fd/1", &link).unwrap();
    let link = link.to_str().unwrap().to_owned();
    let spec = String::from_utf8(world.expected(&BUILD, false)).unwrap();
    for (name, descriptor) in [
        (&*link, 1),
        ("/dev/fd/1", 1),
        ("/proc/self/fd/1", 1),
        ("/dev/fd/7", 7),
        ("/proc/thread-self/fd/7", 7),
        ("-", 1),
    ] {
        let file = directory.path().join("file");
        let command = world.command(&BUILD, name.as_ref(), None);
        let mut shell = Command::new("sh");
        let script =
            format!("exec {descriptor}>\"$0\"; echo first >&{descriptor}; \"$@\"; echo last >&{descriptor}");
        shell.args(["-euc", &script]).arg(&file).arg(command.get_program()).args(command.get_args());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("first\n{spec}last\n"), "{name}");
    }
    // A socket cannot be opened by name.
    let (mut own, theirs) = UnixStream::pair().unwrap();
    let mut command = world.command(&BUILD, "/dev/fd/1".as_ref(), None);
    assert!(command.stdout(OwnedFd::from(theirs)).status().unwrap().success());
    drop(command);
    let mut received = String::new();
    own.read_to_string(&mut received).unwrap();
    assert_eq!(received, spec);
}

/// A descriptor that the program opened itself, such as a cache file, is not an output.
#[test]
fn descriptors_opened_by_nixply_are_not_outputs() {
    let world = World::new();
    for number in 3..10 {
        let name = format!("/dev/fd/{number}");
        let output =
            redirected(&world.command(&BUILD, name.as_ref(), None), "3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-");
        let message = format!("error: cannot write {name}: No such file or directory (os error 2)\n");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), &*message));
    }
}

/// Some parent processes pass a non-blocking pipe, and read it only later.
#[test]
fn nonblocking_pipes_receive_everything() {
    let world = World::new();
    for name in ["-", "/dev/fd/1"] {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        let mut command = world.command(&LARGE, name.as_ref(), None);
        let mut child = command.stdout(writer).spawn().unwrap();
        drop(command);
        thread::sleep(Duration::from_millis(300));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(all.len() > 64 << 10 && all == world.expected(&LARGE, false), "{name}: {}", all.len());
    }
}

#[test]
fn process_substitutions_receive_everything() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let mut bash = Command::new("bash");
    let command = world.command(&LARGE, "OUT".as_ref(), None);
    bash.args([
        "-c",
        "program=(\"$@\"); \"${program[@]/#OUT//dev/fd/63}\" 63> >(cat > got; touch done)",
        "bash",
    ]);
    bash.arg(command.get_program()).args(command.get_args()).current_dir(directory.path());
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let begin = Instant::now();
    while !directory.path().join("done").exists() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(10));
    }
    assert!(fs::read(directory.path().join("got")).unwrap() == world.expected(&LARGE, false));
}

#[test]
fn fifo_without_reader_ends_the_program_like_a_pipe() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    sh(directory.path(), "mkfifo fifo");
    let child = world.command(&LARGE, &fifo, None).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = File::open(&fifo).unwrap();
    reader.read_exact(&mut [0]).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert!(!text(&output.stderr).contains("error"), "{}", text(&output.stderr));
}

/// An interrupt ends the program while it waits for the reader of a FIFO, or for space in a pipe.
#[test]
fn interrupt_ends_waiting_for_a_reader() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    sh(directory.path(), "mkfifo fifo");
    let fifo = directory.path().join("fifo");
    let (_unread, writer) = io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while (&writer).write(&[0; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, OFlags::empty()).unwrap();
    let mut full = world.command(&BUILD, "-".as_ref(), None);
    full.stdout(writer);
    for (mut command, code) in [
        (world.command(&BUILD, &fifo, None), 130),
        (full, 130),
        // Nothing needs to be removed here, so the signal has its default action.
        (world.command(&LARGE, &fifo, None), 128 + 2),
    ] {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let begin = Instant::now();
        // Blocked in the kernel: waiting for the other end of a FIFO, or for space in a pipe.
        let waits = || {
            let place =
                fs::read_to_string(format!("/proc/{}/wchan", pid.as_raw_nonzero())).unwrap_or_default();
            place.contains("partner") || place.contains("pipe") || place.contains("fifo")
        };
        while !waits() && begin.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(20));
        }
        kill_process(pid, Signal::INT).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code().or(status.signal().map(|signal| 128 + signal)), Some(code), "{status:?}");
    }
}
