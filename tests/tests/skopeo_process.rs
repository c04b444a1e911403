//! The program under the name `skopeo` as a process: arguments, exit codes, errors and signals.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nixply_tests::engines::{Directory, Image};
use nixply_tests::skopeo::{SkopeoLink, source};
use nixply_tests::{Nix, Running, harness, run, run_with_input};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A stand-in for the real skopeo.
fn fake(script: &str) -> Directory {
    let directory = Directory::new();
    let file = directory.join("skopeo");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    directory
}

/// Builds an image for a fake skopeo, which does not read it, and returns its spec.
fn any_spec(nix: &Nix) -> PathBuf {
    Image::build(nix, "", r#"{ name = "any"; config.Env = [ "FILE=${builtins.toFile "any" "any"}" ]; }"#).spec
}

/// Prints the arguments of a fake skopeo, one per line, as hexadecimal digits.
const RECORD: &str =
    r#"for argument; do printf %s "$argument" | od -An -v -tx1 | tr -d ' \n'; echo; done; cat; exit 42"#;

fn hex(argument: &[u8]) -> String {
    argument.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Arguments with arbitrary bytes and standard input reach skopeo, and its exit code is returned.
#[test]
fn other_arguments_and_input_are_passed_through() {
    let nix = harness!();
    let (link, real, spec) = (SkopeoLink::new(&nix), fake(RECORD), any_spec(&nix));
    let odd = OsStr::from_bytes(b"\xff'\"\\$(touch x)`touch y` *\n");
    let arguments: [&OsStr; 8] = [
        "--debug".as_ref(),
        "copy".as_ref(),
        "--dest-creds".as_ref(),
        "nix:not this".as_ref(),
        "".as_ref(),
        odd,
        "--".as_ref(),
        "-\t-".as_ref(),
    ];
    let path = link.path(format!("/nonexistent::{}", real.path().display()) + ":/usr/bin:/bin");
    let check = |command: &mut Command, expected: &[String]| {
        let output = run_with_input(command.args(arguments).env("PATH", &path), "what\nit reads");
        assert_eq!(output.stderr, "");
        assert_eq!(output.stdout, expected.join("\n") + "\nwhat\nit reads");
        assert_eq!(output.code, Some(42));
    };
    let given: Vec<String> = arguments.iter().map(|argument| hex(argument.as_bytes())).collect();
    check(&mut link.command(&[]), &given);
    let mut nixply = Command::new(&nix.cli);
    link.set_up(&mut nixply);
    check(nixply.arg("skopeo"), &given);
    // With a `nix:` source, the arguments that select the image are added; the others are unchanged.
    let source = source(&spec);
    let mut arguments = arguments;
    arguments[4] = &source;
    let output = run_with_input(link.command(&[]).args(arguments).env("PATH", &path), "what\nit reads");
    assert_eq!((output.stderr.as_str(), output.code), ("", Some(42)));
    let (before, rest) = output.stdout.split_once(&given[2]).unwrap();
    let before: Vec<&str> = before.lines().collect();
    assert_eq!(before[..2], given[..2]);
    assert_eq!((before.len(), before[2]), (4, &*hex(b"--src-tls-verify=false")));
    assert!(before[3].starts_with(&hex(b"--src-authfile=/")), "{before:?}");
    let rest: Vec<&str> = rest.trim_start().lines().collect();
    assert_eq!(rest[0], given[3]);
    assert!(rest[1].starts_with(&hex(b"docker://127.0.0.1:")), "{rest:?}");
    assert_eq!(rest[2..], [&given[5], &given[6], &given[7], "what", "it reads"]);
}

#[test]
fn skopeos_errors_keep_their_text_and_exit_codes() {
    let nix = harness!();
    let (link, spec) = (SkopeoLink::new(&nix), any_spec(&nix));
    let real = |arguments: &[&str]| run(Command::new("skopeo").args(arguments));
    for (arguments, words) in [
        (&["--insecure-policy", "copy", "nix:", "docker://127.0.0.1:1/x"][..], "connection refused"),
        (&["--insecure-policy", "copy", "nix:", "nowhere:x"], "unknown transport"),
        (&["--insecure-policy", "copy", "nix:", "nix:x"], "unknown transport"),
        (&["copy", "--nonsense", "nix:", "dir:x"], "unknown flag: --nonsense"),
        (&["inspect", "nix:", "more"], "Exactly one argument expected"),
        (&["list-tags", "nix:"], "nix"),
    ] {
        let ours: Vec<String> = arguments
            .iter()
            .map(|argument| argument.replace("nix:", &format!("nix:{}", spec.display())))
            .collect();
        let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
        let output = run(&mut link.command(&ours));
        assert_eq!(output.code, real(arguments).code, "{arguments:?}");
        let error = output.fails();
        assert!(error.contains(words) && !error.contains("error: "), "{arguments:?}: {error}");
    }
    assert_eq!(run(&mut link.command(&["--version"])).ok(), real(&["--version"]).ok());
    assert_eq!(run(&mut link.command(&["copy", "--help"])).ok(), real(&["copy", "--help"]).ok());
    // These errors are nixply's.
    let error = run(&mut link.command(&["copy", "nix:/nonexistent.json", "dir:x"])).fails();
    assert_eq!(error, "error: cannot read /nonexistent.json: No such file or directory (os error 2)\n");
    let directory = Directory::new();
    fs::write(directory.join("image.json"), "[]").unwrap();
    let error = run(&mut link.copy(&directory.join("image.json"), &["dir:x"])).fails();
    assert!(error.starts_with(&format!("error: {} ", directory.join("image.json").display())), "{error}");
}

#[test]
fn missing_skopeo_is_an_error_with_a_hint() {
    let nix = harness!();
    let link = SkopeoLink::new(&nix);
    let fails = |command: &mut Command| {
        let output = run(command);
        assert_eq!(output.code, Some(1));
        output.fails()
    };
    let error = fails(link.command(&["--version"]).env("PATH", link.directory.path()));
    assert_eq!(
        error,
        "error: cannot find the real skopeo: PATH has none, or only nixply under that name\nhint: install skopeo, or set NIXPLY_SKOPEO to its path\n"
    );
    let error = fails(link.command(&["--version"]).env("NIXPLY_SKOPEO", &nix.cli));
    assert!(error.starts_with("error: NIXPLY_SKOPEO must name the real skopeo"), "{error}");
    let error = fails(link.command(&["--version"]).env("NIXPLY_SKOPEO", "/nonexistent/skopeo"));
    assert!(error.starts_with("error: cannot start the real skopeo, /nonexistent/skopeo: "), "{error}");
    // A script that calls nixply again.
    let real = fake(&format!("exec {} \"$@\"", link.program().display()));
    let error = fails(link.command(&["--version"]).env("PATH", link.path(real.path())));
    assert!(error.starts_with("error: the skopeo on PATH calls nixply again"), "{error}");
    // A skopeo named in the variable need not be on PATH or be called skopeo.
    let real = fake("echo named \"$@\"");
    fs::rename(real.join("skopeo"), real.join("other name")).unwrap();
    let mut command = link.command(&["--version"]);
    assert_eq!(run(command.env("NIXPLY_SKOPEO", real.join("other name"))).ok(), "named --version");
}

/// Sends the signal only to nixply, as a supervisor does.
#[test]
fn signals_are_forwarded_to_skopeo() {
    let nix = harness!();
    let (link, spec) = (SkopeoLink::new(&nix), any_spec(&nix));
    let script = r#"
        for signal in HUP INT TERM USR1; do trap "echo got $signal; exit 7" $signal; done
        echo ready "$@"
        for second in 1 2 3 4 5 6 7 8 9 10; do for part in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done; done"#;
    let real = fake(script);
    for verb in ["copy", "inspect"] {
        for signal in ["HUP", "INT", "TERM", "USR1"] {
            let temporary = Directory::new();
            let mut command = link.command(&[verb]);
            command
                .arg(source(&spec))
                .env("NIXPLY_SKOPEO", real.join("skopeo"))
                .env("TMPDIR", temporary.path());
            let mut running = Running::start(&mut command);
            running.wait_until(TIMEOUT, |running| running.stdout().starts_with("ready"));
            running.signal_alone(signal);
            let output = running.finish(TIMEOUT);
            assert_eq!(output.code, Some(7), "{verb} {signal}: {output:?}");
            assert!(output.stdout.ends_with(&format!("got {signal}\n")), "{verb} {signal}: {output:?}");
            assert_eq!(temporary.path().read_dir().unwrap().count(), 0, "{verb} {signal}");
            if verb == "copy" {
                let address = output.stdout.split("docker://").nth(1).unwrap().split('/').next().unwrap();
                TcpStream::connect(address).unwrap_err();
            }
        }
    }
}

/// If a signal ends skopeo, nixply's parent sees that the same signal ended nixply.
#[test]
fn signal_that_ends_skopeo_also_ends_nixply() {
    let nix = harness!();
    let (link, spec) = (SkopeoLink::new(&nix), any_spec(&nix));
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("USR2", 12)] {
        let real = fake(&format!("kill -{signal} $$"));
        let mut command = link.copy(&spec, &["dir:x"]);
        let status = command.env("NIXPLY_SKOPEO", real.join("skopeo")).status().unwrap();
        assert_eq!(status.signal(), Some(number), "{signal}: {status:?}");
    }
}

/// skopeo ignores a signal that nixply's parent ignores, as with nohup.
#[test]
fn ignored_signals_stay_ignored() {
    let nix = harness!();
    let (link, spec) = (SkopeoLink::new(&nix), any_spec(&nix));
    let real = fake("echo ready; sleep 1; echo done");
    let mut command = Command::new("sh");
    link.set_up(&mut command);
    command.env("NIXPLY_SKOPEO", real.join("skopeo"));
    command.args(["-c", "trap '' HUP; exec \"$0\" copy \"$1\" dir:x"]).arg(link.program()).arg(source(&spec));
    let mut running = Running::start(&mut command);
    running.wait_until(TIMEOUT, |running| running.stdout() == "ready\n");
    running.signal("HUP");
    assert_eq!(running.finish(TIMEOUT).ok(), "ready\ndone");
}

/// Interrupts the real skopeo while nixply packs.
#[test]
fn interrupted_copy_leaves_no_files() {
    let nix = harness!();
    let link = SkopeoLink::new(&nix);
    let image =
        Image::build(&nix, "", r#"{ name = "python"; config.Cmd = [ "${pkgs.python3}/bin/python3" ]; }"#);
    let (temporary, cache, target) = (Directory::new(), Directory::new(), Directory::new());
    let to = format!("oci:{}:t", target.join("layout").display());
    // A slow codec, so that the signal arrives while nixply packs.
    let flags = ["--dest-compress-format=zstd", "--dest-compress-level=15", &to];
    let mut command = link.copy(&image.spec, &flags);
    command.env("TMPDIR", temporary.path()).env("NIXPLY_CACHE_DIR", cache.path());
    let mut running = Running::start(&mut command);
    let packing = || {
        // Files without names are visible only among the process's open files.
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let open =
            processes.flat_map(|process| fs::read_dir(process.path().join("fd")).into_iter().flatten());
        let mut links = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        links.any(|link| link.starts_with(temporary.path()))
    };
    running.wait_until(TIMEOUT, |_| packing());
    let begin = Instant::now();
    running.signal_alone("TERM");
    let output = running.finish(TIMEOUT);
    assert_eq!(output.code, None, "{output:?}");
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    assert!(!output.stderr.contains("error: "), "{}", output.stderr);
    assert_eq!(temporary.path().read_dir().unwrap().count(), 0);
}
