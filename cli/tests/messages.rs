//! The form of errors, and their exit codes.

mod terminal;

use std::io::BufRead;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use self::terminal::Running;

const MESSAGE: &str = "cannot read none.json: No such file or directory (os error 2)";

/// Returns a failing command, in an environment without settings for colours.
fn complaint(variables: &[(&str, &str)]) -> Command {
    let mut command = nixply(&["inspect", "none.json"]);
    command.envs(variables.iter().copied());
    command
}

fn nixply(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

fn said(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn colours_follow_terminal_and_environment() {
    let coloured = format!("\u{1b}[1m\u{1b}[31merror:\u{1b}[0m {MESSAGE}\n");
    let plain = format!("error: {MESSAGE}\n");
    for (variables, expected) in [
        (&[][..], &plain),
        (&[("TERM", "xterm")], &plain),
        (&[("CLICOLOR_FORCE", "1")], &coloured),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &plain),
    ] {
        let output = complaint(variables).output().unwrap();
        assert_eq!(said(&output), (Some(1), "", &**expected), "{variables:?}");
    }
    for (variables, colours) in [
        (&[("TERM", "xterm")][..], true),
        (&[("TERM", "dumb")], false),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
        (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
        (&[("TERM", "xterm"), ("CLICOLOR", "0")], false),
    ] {
        let running = Running::start(&mut complaint(variables));
        let bytes = running.bytes();
        let expected = if colours { &coloured } else { &plain };
        assert_eq!(String::from_utf8(bytes).unwrap().replace("\r\n", "\n"), *expected, "{variables:?}");
    }
}

#[test]
fn hints_are_separate_lines() {
    let output = nixply(&["cache", "stat"]).env_remove("HOME").output().unwrap();
    let expected = "error: cannot find the cache directory\nhint: set HOME, or pass --cache-dir\n";
    assert_eq!(said(&output), (Some(1), "", expected));

    let output = nixply(&["skopeo", "--version"]).env("PATH", "/nonexistent").output().unwrap();
    let expected = "error: cannot find the real skopeo: PATH has none, or only nixply under that name\n\
                    hint: install skopeo, or set NIXPLY_SKOPEO to its path\n";
    assert_eq!(said(&output), (Some(1), "", expected));
}

#[test]
fn mistyped_names_get_suggestions() {
    for (arguments, expected) in [
        (
            &["layuot"][..],
            "error: unrecognized subcommand 'layuot'\n\n  tip: a similar subcommand exists: 'layout'\n",
        ),
        (&["layout", "a", "b", "--compresion=gzip"], "tip: a similar argument exists: '--compression'\n"),
    ] {
        let output = nixply(arguments).output().unwrap();
        let (code, out, error) = said(&output);
        assert_eq!((code, out), (Some(2), ""), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn usage_errors_exit_with_2() {
    let limit = "error: invalid value 'much' for '--cache-limit <SIZE>'";
    for (arguments, variable, expected) in [
        (&["inspect"][..], "1GB", "error: the following required arguments were not provided:\n  <IMAGE>\n"),
        (&["cache", "stat", "--cache-limit", "much"], "1GB", limit),
        (&["cache", "stat"], "much", limit),
        (&["skopeo", "copy", "nix:image.json", "dir:out"], "much", limit),
        (&["cache"], "1GB", "error: 'nixply cache' requires a subcommand"),
        (&[], "1GB", "Build OCI images from Nix closures"),
        (
            &["serve", "a.json", "--name", "a", "--name", "b"],
            "1GB",
            "error: --name is given 2 times for 1 images\n",
        ),
        (
            &["strategies", "--git-revisions", "a..b", "--installable", "x", "c", "d"],
            "1GB",
            "error: --git-revisions needs one repository, got 2\n",
        ),
        (
            &["n2c", "layers-from-reproducible-storepaths", "--max-layers=0", "out", "in"],
            "1GB",
            "error: --max-layers must be at least 1, got 0",
        ),
        (&["container", "--registry", "docker://r/"], "1GB", "error: No container subcommand provided. "),
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("image.json"), r#"{"version": 1, "layers": []}"#).unwrap();
        let mut command = nixply(arguments);
        command.env("NIXPLY_CACHE_LIMIT", variable).env("NIXPLY_SKOPEO", "/bin/true");
        let output = command.current_dir(directory.path()).output().unwrap();
        let (code, out, error) = said(&output);
        assert!(code == Some(2) && out.is_empty() && error.starts_with(expected), "{output:?}");
    }
    // Wrong file contents are not usage errors.
    let output =
        nixply(&["skopeo", "copy", "nix:/dev/null", "dir:out"]).env("NIXPLY_SKOPEO", "/bin/true").output();
    let output = output.unwrap();
    let (code, _, error) = said(&output);
    assert!(code == Some(1) && error.starts_with("error: /dev/null is empty"), "{output:?}");
    for arguments in [&["--help"][..], &["--version"], &["build", "-h"]] {
        let output = nixply(arguments).output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty() && output.stdout.len() > 10,
            "{output:?}"
        );
    }
}

#[test]
fn quiet_serve_prints_only_the_reference() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("image.json"), r#"{"version": 1, "layers": []}"#).unwrap();
    for (flags, lines) in [(&[][..], 2), (&["--quiet"], 0)] {
        let mut command = nixply(&["serve", "image.json"]);
        command.args(flags).current_dir(directory.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut reference = String::new();
        std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut reference).unwrap();
        assert!(reference.ends_with("/image:latest\n"), "{reference}");
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        let output = child.wait_with_output().unwrap();
        let (code, _, error) = said(&output);
        assert_eq!((code, error.lines().count()), (Some(0), lines), "{error}");
    }
}

#[test]
fn closed_output_pipe_exits_with_141_silently() {
    let mut command = nixply(&["cache", "stat", "--cache-dir", "."]);
    // A pipe without a reader.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(141), None));
    assert_eq!(said(&output).2, "");
}
