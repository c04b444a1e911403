//! `nixply container`: arguments, recorded calls of skopeo and engines, and errors. See also the other `container_*.rs`.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nixply_tests::engines::unique;
use nixply_tests::{Nix, Output, Project, Running, harness, run};
use serde_json::Value;

const HELLO: &str = r#"{ processes.hello.exec = "echo Hello"; }"#;

/// A project with fake programs that only record their arguments, one per line.
struct Recorder<'n> {
    project: Project<'n>,
    /// Address of a fake Docker daemon.
    daemon: String,
    _directory: tempfile::TempDir,
    _socket: UnixListener,
}

impl<'n> Recorder<'n> {
    fn new(nix: &'n Nix, devenv: &str) -> Self {
        let project = Project::new(nix, devenv);
        for name in ["docker", "podman", "skopeo"] {
            project.program(name, r#"{ echo "${0##*/}"; printf '%s\n' "$@"; echo; } >> "$RECORD""#);
        }
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let daemon = format!("unix://{}", socket.display());
        Self { project, daemon, _directory: directory, _socket: UnixListener::bind(socket).unwrap() }
    }

    /// Runs `nixply container` with these arguments. Returns its output and a line for each call of a fake program, in which
    /// fixed words replace addresses and temporary files.
    #[track_caller]
    fn record(&self, words: &[&str]) -> (Output, Vec<String>) {
        let record = self.project.path().join("../record");
        let record = record.with_file_name(unique("-record"));
        let mut command = self.project.nixply(["container"].iter().chain(words));
        // Without progress bars, nixply calls skopeo like devenv, without --quiet.
        command.env("RECORD", &record).env("NIXPLY_PROGRESS", "0").env("DOCKER_HOST", &self.daemon);
        command.env(
            "NIXPLY_SKOPEO",
            self.project
                .program("skopeo-recorded", r#"{ echo skopeo; printf '%s\n' "$@"; echo; } >> "$RECORD""#),
        );
        let output = run(&mut command);
        let text = fs::read_to_string(&record).unwrap_or_default();
        let _ = fs::remove_file(&record);
        let calls = text.split("\n\n").filter(|call| !call.is_empty());
        (
            output,
            calls
                .map(|call| same_address(&call.replace('\n', " ")).replace(&self.daemon, "DAEMON"))
                .collect(),
        )
    }
}

/// Replaces 127.0.0.1:PORT by `ADDRESS`, and the auth file by `FILE`.
fn same_address(text: &str) -> String {
    let text = &text
        .split(' ')
        .map(|word| {
            word.split_once("-authfile=")
                .map_or_else(|| word.to_owned(), |(option, _)| format!("{option}-authfile=FILE"))
        })
        .collect::<Vec<_>>()
        .join(" ");
    let mut parts = text.split("127.0.0.1:");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| text + "ADDRESS" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[test]
fn build_prints_exactly_the_store_path() {
    let nix = harness!();
    let project = Project::new(&nix, HELLO);
    let built = project.container("build processes");
    let path = built.stdout.strip_suffix('\n').expect("the output ends with a newline").to_owned();
    assert!(!path.contains('\n'), "{path}");
    assert!(
        Path::new(&path).starts_with(nix.store_dir()) && path.ends_with("-image-processes.json"),
        "{path}"
    );
    assert!(fs::read_to_string(&path).unwrap().contains("\"version\": 1"));
    // The result is protected from garbage collection.
    assert_eq!(
        fs::read_link(project.path().join(".devenv/gc/container-processes-derivation")).unwrap(),
        Path::new(&path)
    );

    let old = project.container("processes");
    assert_eq!(old.stdout, built.stdout);
    let warning = "warning: Calling `nixply container` without a subcommand is deprecated. Use `nixply container build \
                   processes` instead.";
    assert!(old.stderr.lines().any(|line| line == warning), "{}", old.stderr);
    assert!(!built.stderr.contains("deprecated"), "{}", built.stderr);

    let json: Value = serde_json::from_str(&project.container("build processes --json").ok()).unwrap();
    assert_eq!((&json["spec"], &json["reference"]), (&path.into(), &"processes:latest".into()));
}

/// Under the name devenv, the warnings equal devenv's.
#[test]
fn deprecation_warnings_name_the_called_program() {
    let nix = harness!();
    let recorder = Recorder::new(&nix, HELLO);
    let project = &recorder.project;
    let link = project.path().join("devenv");
    std::os::unix::fs::symlink(&nix.cli, &link).unwrap();
    for (words, warning) in [
        (
            "container processes",
            "Calling `devenv container` without a subcommand is deprecated. Use `devenv container build processes` instead.",
        ),
        ("container processes --copy", "The --copy flag is deprecated. Use `devenv container copy` instead."),
        (
            "container processes --docker-run",
            "The --docker-run flag is deprecated. Use `devenv container run` instead.",
        ),
        ("container --registry docker://r/ run processes", "Ignoring --registry flag when running container"),
    ] {
        let mut command = Command::new(&link);
        project.prepare(&mut command);
        command
            .args(words.split(' '))
            .env("RECORD", "/dev/null")
            .env("DOCKER_HOST", &recorder.daemon)
            .env("NIXPLY_SKOPEO", project.program("s", "exit 0"));
        let said = run(&mut command);
        assert!(
            said.stderr.lines().any(|line| line == format!("warning: {warning}")),
            "{words}: {}",
            said.stderr
        );
        said.ok();
    }
}

/// Tests all syntaxes of `copy`, registry and copy arguments, including devenv's.
#[test]
fn all_syntaxes_give_skopeo_the_same_arguments() {
    let nix = harness!();
    let recorder = Recorder::new(&nix, HELLO);
    // A pattern such as `--*` must be passed unchanged although this file matches it.
    recorder.project.write("--star", "");
    let start = "skopeo --insecure-policy copy --src-tls-verify=false --src-authfile=FILE docker://ADDRESS/processes:latest";
    let (images, fly) = ("oci:/srv/images/", "docker://registry.fly.io/");
    for (words, destination) in [
        (vec!["copy", "processes"], "docker-daemon:processes:latest --dest-daemon-host DAEMON"),
        (vec!["processes", "--copy"], "docker-daemon:processes:latest --dest-daemon-host DAEMON"),
        // Without arguments for skopeo, nixply copies to registries itself.
        (vec!["processes", "--copy", "--registry", images], "oci:/srv/images/processes:latest"),
        (vec!["--registry", images, "copy", "processes"], "oci:/srv/images/processes:latest"),
        (vec!["copy", "processes", "-r", images], "oci:/srv/images/processes:latest"),
        (
            vec!["copy", "processes", "-r", "docker://", "--copy-args=--quiet"],
            "docker://processes:latest --quiet",
        ),
        (
            vec!["--registry", "docker://ghcr.io/", "copy", "processes", "--copy-args=-q"],
            "docker://ghcr.io/processes:latest -q",
        ),
        (
            vec!["processes", "--copy", "--registry", fly, "--copy-args=--dest-creds x:TOKEN"],
            "docker://registry.fly.io/processes:latest --dest-creds x:TOKEN",
        ),
        (
            vec!["--registry", fly, "--copy-args", "--dest-creds x:TOKEN", "copy", "processes"],
            "docker://registry.fly.io/processes:latest --dest-creds x:TOKEN",
        ),
        (
            vec!["copy", "processes", "--registry", fly, "--copy-args=--dest-creds", "--copy-args=x:TOKEN"],
            "docker://registry.fly.io/processes:latest --dest-creds x:TOKEN",
        ),
        (
            vec!["copy", "processes", "--copy-args", "--* [a]  $HOME `id` -q"],
            "docker-daemon:processes:latest --* [a] $HOME `id` -q --dest-daemon-host DAEMON",
        ),
    ] {
        let (said, calls) = recorder.record(&words);
        assert_eq!(calls, [format!("{start} {destination}")], "{words:?} {}", said.stderr);
        assert!(said.stdout.is_empty(), "{}", said.stdout);
        let reference = destination.split(' ').next().unwrap();
        assert!(
            said.stderr.contains("\nCopying container ")
                && said.stderr.contains(&format!(" to {reference}\n\n")),
            "{}",
            said.stderr
        );
        said.ok();
    }
}

/// Tests all syntaxes of `run`, with arguments for the engine and for the container.
#[test]
fn all_syntaxes_give_engines_the_same_arguments() {
    let nix = harness!();
    let recorder = Recorder::new(&nix, HELLO);
    for (words, engine, last) in [
        (vec!["run", "processes"], "docker", "run -i processes:latest"),
        (vec!["processes", "--docker-run"], "docker", "run -i processes:latest"),
        (vec!["--registry", "docker://r/", "run", "processes"], "docker", "run -i processes:latest"),
        (
            vec!["run", "processes", "--engine", "docker", "--", "a b", "-c"],
            "docker",
            "run -i processes:latest a b -c",
        ),
        (vec!["run", "processes", "--engine", "podman"], "podman", "run -i processes:latest"),
        (
            vec!["run", "processes", "--engine-args=-p 80:80", "--engine-args", "--rm"],
            "docker",
            "run -i -p 80:80 --rm processes:latest",
        ),
        // Options with spaces are quoted.
        (
            vec!["run", "processes", "--engine-args=--env 'A=b  c' -v \"/a b:/c\" --label d=e\\ f"],
            "docker",
            "run -i --env A=b  c -v /a b:/c --label d=e f processes:latest",
        ),
    ] {
        let (said, calls) = recorder.record(&words);
        // The command checks for the daemon before it builds the image.
        let ask = (engine == "docker").then_some("version");
        let (pull, forget) = match engine {
            "docker" => ("pull --quiet ADDRESS/processes:latest", "rmi --no-prune ADDRESS/processes:latest"),
            _ => (
                "pull --quiet --tls-verify=false ADDRESS/processes:latest",
                "untag ADDRESS/processes:latest ADDRESS/processes:latest",
            ),
        };
        // `podman pull` prints the image's ID. docker needs another command for it.
        let find = (engine == "docker").then_some("image inspect --format {{.Id}} ADDRESS/processes:latest");
        let tag = "tag ADDRESS/processes:latest processes:latest";
        let expected = [ask, Some(pull), find, Some(tag), Some(forget), Some(last)];
        let expected: Vec<String> =
            expected.into_iter().flatten().map(|call| format!("{engine} {call}")).collect();
        assert_eq!(calls, expected, "{words:?} {}", said.stderr);
        said.ok();
    }
    // With arguments for skopeo, skopeo copies the image, and the engine does not pull it.
    let (said, calls) = recorder.record(&["run", "processes", "--copy-args=--dest-compress"]);
    let copy = "skopeo --insecure-policy copy --src-tls-verify=false --src-authfile=FILE docker://ADDRESS/processes:latest docker-daemon:processes:latest --dest-compress --dest-daemon-host DAEMON";
    assert_eq!(calls, ["docker version", copy, "docker run -i processes:latest"], "{}", said.stderr);
    said.ok();
}

/// `defaultCopyArgs` is shell code that runs at copy time. `--copy-args` overrides it.
#[test]
fn default_copy_args_are_evaluated_at_copy_time() {
    let nix = harness!();
    let recorder = Recorder::new(&nix, "");
    // The examples of devenv's documentation.
    for example in ["registry", "fly.io"] {
        let from = Nix::repository().join("tests/devenv/examples").join(example).join(".");
        run(Command::new("cp").arg("-r").arg(from).arg(recorder.project.path())).ok();
        recorder.project.set_packages(
            r#"{ flyctl = pkgs.writeShellScriptBin "flyctl" ''[ "$*" = "auth token" ] && echo "$FLY_TOKEN"''; }"#,
        );
        let name = if example == "registry" { "processes" } else { "simple-python-app" };
        let mut project = recorder.project.nixply(["container", "build", "processes"]);
        let spec = run(&mut project).ok();
        let image = Path::new(&spec).file_name().unwrap().to_str().unwrap();
        assert!(image.ends_with(&format!("-image-{name}.json")), "{image}");

        // The secret is neither in a build result nor in the output.
        let mut command = recorder.project.nixply(["container", "copy", "processes"]);
        let record = recorder.project.path().with_file_name(unique("-record"));
        let skopeo = recorder.project.program("s", r#"printf '%s\n' "$@" > "$RECORD""#);
        command.env("FLY_TOKEN", "a secret").env("NIXPLY_SKOPEO", skopeo).env("RECORD", &record);
        let said = run(&mut command);
        let words = fs::read_to_string(&record).unwrap();
        fs::remove_file(&record).unwrap();
        let words: Vec<&str> = words.lines().collect();
        let destination = format!("docker://registry.fly.io/{name}:latest");
        assert!(words.ends_with(&[&destination, "--dest-creds", "x:a secret"]), "{words:?}");
        assert!(!said.stderr.contains("a secret"), "{}", said.stderr);
        said.ok();
        let script =
            fs::read_link(recorder.project.path().join(".devenv/gc/container-processes-copy")).unwrap();
        let script = fs::read_to_string(script).unwrap();
        assert!(script.contains("flyctl auth token") && !script.contains("a secret"), "{script}");

        let (said, calls) = recorder.record(&["copy", "processes", "--copy-args=--all"]);
        assert!(calls[0].ends_with(&format!("{destination} --all")), "{calls:?}");
        said.ok();
    }
}

#[test]
fn errors_have_hints() {
    let nix = harness!();
    let project = Project::new(&nix, HELLO);
    let fails_with = |code: i32, words: &str| {
        let said = project.container(words);
        assert_eq!((said.code, &*said.stdout), (Some(code), ""), "{words}: {}", said.stderr);
        said.stderr
    };
    let fails = |words: &str| fails_with(1, words);
    // devenv reports these errors without a hint.
    assert_eq!(
        fails("build proceses"),
        "error: there is no container \"proceses\": the project has processes, shell\nhint: did you mean processes?\n"
    );
    assert_eq!(
        fails("build web.app"),
        "error: there is no container \"web.app\": the project has processes, shell\nhint: define it in devenv.nix as containers.\"web.app\"\n"
    );
    assert!(fails_with(2, "--registry docker://r/").starts_with(
        "error: No container subcommand provided. Use `nixply container build` or specify a command.\n"
    ));

    project.write("devenv.nix", r#"{ name = null; containers.web.startupCommand = "true"; }"#);
    let said = fails("build web");
    assert!(
        said.contains("You need to set `name = \"myproject\";` or `containers.web.name = \"mycontainer\"; to be able to generate a container."),
        "{said}"
    );
    let end = format!(
        "error: Nix cannot evaluate {}/devenv.nix\n",
        fs::canonicalize(project.path()).unwrap().display()
    );
    assert!(said.ends_with(&end), "{said}");
    project.write("devenv.nix", "{ packagse = [ ]; }");
    let error = fails("build shell");
    assert!(error.contains("cannot use the option `packagse` of "), "{error}");
    assert!(error.contains("unknown option, did you mean `packages`?"), "{error}");
    project.write("devenv.nix", "{ packages = [ ; }");
    assert!(fails("build shell").contains("syntax error"));
    project.write("devenv.nix", r#"{ containers.web = { registry = null; startupCommand = "true"; }; }"#);
    assert!(fails("copy web").contains(
        "error: containers.web has no registry\nhint: set containers.web.registry, or pass --registry\n"
    ));

    fs::remove_file(project.path().join("devenv.nix")).unwrap();
    let said = fails("build shell");
    assert!(
        said.starts_with("error: cannot find devenv.nix in ")
            && said.contains("hint: create one with `nixply init`"),
        "{said}"
    );
    assert!(fails("build shell -f nowhere.nix").contains("nowhere.nix"));
}

#[test]
fn missing_engines_and_unavailable_daemons_have_different_errors() {
    let nix = harness!();
    let project = Project::new(&nix, HELLO);
    project.build("processes");
    let mut command = project.nixply(["container", "run", "processes"]);
    // PATH has only Nix's programs, and the machine's programs that Nix needs.
    let bin = tempfile::tempdir().unwrap();
    for program in ["sh", "git"] {
        if let Ok(at) = fs::canonicalize(Path::new("/usr/bin").join(program)) {
            std::os::unix::fs::symlink(at, bin.path().join(program)).unwrap();
        }
    }
    command.env("PATH", format!("{}:{}", nix.bin.display(), bin.path().display()));
    let said = run(&mut command).fails();
    let hint = "hint: install one of them, or copy the container elsewhere: `nixply container copy`";
    assert_eq!(said.lines().last(), Some(hint));
    let error = said.lines().rev().nth(1).unwrap();
    assert!(error.starts_with("error: cannot find docker") && error.ends_with(" on PATH"), "{said}");
    let mut command = project.nixply(["container", "run", "processes", "--engine", "docker"]);
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let said = run(&mut command).fails();
    assert!(said.contains("Cannot connect to the Docker daemon at unix:///nowhere/docker.sock"), "{said}");
    assert!(
        said.ends_with(
            "error: docker does not answer\n\
             hint: start docker's daemon at unix:///nowhere/docker.sock, or use --engine podman\n"
        ),
        "{said}"
    );
}

/// Without --engine, podman replaces an unavailable docker. With --engine, an unavailable engine is an error before building.
#[test]
fn podman_replaces_unavailable_docker() {
    let nix = harness!();
    let recorder = Recorder::new(&nix, HELLO);
    let words =
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?";
    let refusal = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock";
    for (words, what) in [(words, "does not answer"), (refusal, "refuses this user"), ("", "does not answer")]
    {
        recorder.project.program("docker", &format!("echo '{words}' >&2; exit 1"));
        let (said, calls) = recorder.record(&["run", "processes"]);
        assert_eq!(
            calls.last().map(String::as_str),
            Some("podman run -i processes:latest"),
            "{}",
            said.stderr
        );
        let warning = format!("warning: docker {what}: using podman");
        assert_eq!(said.stderr.lines().filter(|line| *line == warning).count(), 1, "{}", said.stderr);
        said.ok();
    }
    recorder.project.write("devenv.nix", "throw \"it was evaluated\"");
    let (said, calls) = recorder.record(&["run", "processes", "--engine", "docker"]);
    assert!(
        said.stderr.contains("error: docker does not answer\nhint: start docker's daemon at "),
        "{}",
        said.stderr
    );
    assert!(calls.is_empty() && !said.stderr.contains("it was evaluated"), "{}", said.stderr);
}

/// A signal, such as from a cancelled CI job, also ends nixply's child processes. Temporary files are removed.
#[test]
fn signals_end_child_processes() {
    let nix = harness!();
    let mark = unique("-slow");
    let project = Project::new(
        &nix,
        &format!(
            r#"{{ pkgs, ... }}: {{ packages = [ (pkgs.runCommand "{mark}" {{ }} "mkdir $out; echo working >&2; sleep 300") ]; }}"#
        ),
    );
    let temporary = tempfile::tempdir().unwrap();
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut command = project.nixply(["container", "build", "shell", "--verbose"]);
        let mut running = Running::start(command.env("TMPDIR", temporary.path()));
        running.wait_until(Duration::from_secs(120), |running| running.stderr().contains("> working"));
        // Signals only nixply, not its group.
        running.signal_alone(signal);
        let said = running.finish(Duration::from_secs(60));
        assert_eq!(said.code, Some(code), "{}", said.stderr);
        assert!(said.stderr.ends_with("error: interrupted\n") && said.stdout.is_empty(), "{}", said.stderr);
        // Every child process inherits TMPDIR.
        let environment = temporary.path().to_str().unwrap();
        let at_work = fs::read_dir("/proc").unwrap().filter_map(|process| {
            let has = fs::read(process.as_ref().ok()?.path().join("environ")).ok()?;
            String::from_utf8_lossy(&has).contains(environment).then(|| process.unwrap().path())
        });
        assert_eq!(at_work.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
        // Nix may leave directories of its builds.
        let left = fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let ours: Vec<_> = left.filter(|name| !name.to_str().unwrap().starts_with("nix-build-")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

#[test]
fn missing_skopeo_is_an_error_with_a_hint() {
    let nix = harness!();
    let project = Project::new(&nix, HELLO);
    let mut command = project.nixply(["container", "copy", "processes", "-r", "oci:images/"]);
    let said = run(command.env("NIXPLY_SKOPEO", "/nowhere/skopeo")).fails();
    assert!(said.contains("error: cannot start the real skopeo, /nowhere/skopeo: "), "{said}");
    assert!(said.contains("\nhint: install skopeo, or set NIXPLY_SKOPEO to its path\n"), "{said}");
}
