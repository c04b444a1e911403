//! Documents that are links, pipes, devices or directories.

mod stores;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use stores::{HANGS, World, fifo, finish, said};

/// Documents through symlinks, pipes, a FIFO and a shell's process substitution.
#[test]
fn documents_can_be_links_and_pipes() {
    let world = World::new(1000, "zstd:1");
    let truth = world.built(&["--no-cache"]);
    symlink("request.json", world.at("result")).unwrap();
    fifo(&world.at("fifo"));
    let tail = r#"--closure closure.json --real-store-dir store -q --no-cache"#;
    for script in [
        format!(r#""$0" build result {tail}"#),
        format!(r#""$0" build - {tail} < request.json"#),
        format!(r#""$0" build /dev/stdin {tail} < request.json"#),
        format!(r#"(sleep 0.2; cat request.json) | "$0" build /dev/stdin {tail}"#),
        format!(r#"cat request.json | "$0" build - {tail}"#),
        format!(r#"(sleep 0.2; cat request.json > fifo) & "$0" build fifo {tail}; wait"#),
        format!(r#"cat request.json | "$0" build /dev/fd/0 {tail}"#),
    ] {
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_nixply")]).current_dir(world.directory.path());
        let built = finish(command);
        assert_eq!(said(&built), (Some(0), &truth[..], ""), "{script}");
    }
    let bash = Command::new("bash").arg("--version").output();
    if bash.is_ok() {
        let script = r#""$0" build <(cat request.json) --closure <(sleep 0.2; cat closure.json) --real-store-dir store -q --no-cache"#;
        let mut command = Command::new("bash");
        command.args(["-c", script, env!("CARGO_BIN_EXE_nixply")]).current_dir(world.directory.path());
        let built = finish(command);
        assert_eq!(said(&built), (Some(0), &truth[..], ""), "{script}");
    }
}

/// A FIFO, a device, a socket or a directory instead of a request, a closure, a lock file, a spec or a history.
#[test]
fn special_files_are_not_documents() {
    let world = World::new(1000, "zstd:1");
    fifo(&world.at("fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(world.at("socket")).unwrap();
    for (name, why) in [
        ("fifo", "it is a FIFO, and no process has written to it for 5 s"),
        ("/dev/zero", "is not text: it has a NUL byte"),
        ("socket", "it is a socket or device, not a regular file"),
        ("store", "is a directory, not a"),
    ] {
        let build = ["--real-store-dir", "store", "-q", "--no-cache"];
        let commands: [&[&str]; 6] = [
            &["build", name, "--closure", "closure.json"],
            &["build", "request.json", "--closure", name],
            &["plan", "request.json", "--closure", "closure.json", "--lock", name],
            &["inspect", name],
            &["cache", "import", name],
            &["strategies", name],
        ];
        let world = &world;
        // In parallel, because some of them wait.
        thread::scope(|scope| {
            for (at, command) in commands.into_iter().enumerate() {
                let arguments = if at < 2 { [command, &build].concat() } else { command.to_vec() };
                // A history may also be a directory or a compressed file.
                if at < 5 || !["store", "/dev/zero"].contains(&name) {
                    scope.spawn(move || {
                        let output = world.nixply(&arguments);
                        let (code, _, error) = said(&output);
                        assert_ne!(code, Some(0), "{arguments:?}");
                        assert!(error.contains(why) && error.contains(name), "{arguments:?}: {error}");
                    });
                }
            }
        });
    }
}

/// A program that waits for a document can be interrupted.
#[test]
fn signals_end_waiting_for_a_document() {
    let world = World::new(1000, "zstd:1");
    fifo(&world.at("fifo"));
    let arguments = ["build", "fifo", "--closure", "closure.json"];
    let mut child = world.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
    // A writer that never completes the document.
    let mut writer = File::options().write(true).open(world.at("fifo")).unwrap();
    writer.write_all(b"{").unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < HANGS, "the program does not end");
        thread::sleep(Duration::from_millis(5));
    }
}
