//! `nixply container`: what it builds, what it has skopeo do, what it says. Engines are in `container_run.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nixply_tests::engines::{skopeo, unique};
use nixply_tests::{Nix, Output, Project, Running, harness, needs, run, run_with_input};
use serde_json::Value;

const HELLO: &str = r#"{ processes.hello.exec = "echo Hello"; }"#;

/// Programs that write down what they are called with, a word a line, and do nothing.
struct Recorder<'n> {
    project: Project<'n>,
    /// Where a daemon of Docker could be.
    daemon: String,
    _folder: tempfile::TempDir,
    _socket: UnixListener,
}

impl<'n> Recorder<'n> {
    fn new(nix: &'n Nix, devenv: &str) -> Self {
        let project = Project::new(nix, devenv);
        for name in ["docker", "podman", "skopeo"] {
            project.program(name, r#"{ echo "${0##*/}"; printf '%s\n' "$@"; echo; } >> "$RECORD""#);
        }
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let daemon = format!("unix://{}", socket.display());
        Self { project, daemon, _folder: folder, _socket: UnixListener::bind(socket).unwrap() }
    }

    /// The command, and what was called: a line each, with addresses of this machine made equal.
    #[track_caller]
    fn record(&self, words: &[&str]) -> (Output, Vec<String>) {
        let record = self.project.path().join("../record");
        let record = record.with_file_name(unique("-record"));
        let mut command = self.project.nixply(["container"].iter().chain(words));
        // As devenv's: without bars, skopeo is not told to be quiet.
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

/// With `ADDRESS` for 127.0.0.1:PORT, and `FILE` for the auth file.
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

/// Rows C1 and C2.
#[test]
fn build_prints_exactly_the_store_path() {
    let nix = harness!();
    let project = Project::new(&nix, HELLO);
    let built = project.container("build processes");
    let path = built.stdout.strip_suffix('\n').expect("it is a line").to_owned();
    assert!(!path.contains('\n'), "{path}");
    assert!(
        Path::new(&path).starts_with(nix.store_dir()) && path.ends_with("-image-processes.json"),
        "{path}"
    );
    assert!(fs::read_to_string(&path).unwrap().contains("\"version\": 1"));
    // Row C13.
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

/// By the name of devenv, the warnings are devenv's word for word.
#[test]
fn warnings_name_the_program_as_it_was_called() {
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

/// Rows C3, C6, C7, C8, D3 and N8: however it is said, skopeo gets the same words.
#[test]
fn all_dialects_give_skopeo_the_same_arguments() {
    let nix = harness!();
    let recorder = Recorder::new(&nix, HELLO);
    // Patterns stay as they are, whatever files there are.
    recorder.project.write("--star", "");
    let start = "skopeo --insecure-policy copy --src-tls-verify=false --src-authfile=FILE docker://ADDRESS/processes:latest";
    let fly = "docker://registry.fly.io/";
    for (words, destination) in [
        (vec!["copy", "processes"], "docker-daemon:processes:latest --dest-daemon-host DAEMON"),
        (vec!["processes", "--copy"], "docker-daemon:processes:latest --dest-daemon-host DAEMON"),
        (vec!["processes", "--copy", "--registry", "docker://"], "docker://processes:latest"),
        (vec!["--registry", "docker://", "copy", "processes"], "docker://processes:latest"),
        (vec!["copy", "processes", "-r", "docker://"], "docker://processes:latest"),
        (vec!["processes", "--registry", "docker://ghcr.io/", "--copy"], "docker://ghcr.io/processes:latest"),
        (vec!["--registry", "docker://ghcr.io/", "copy", "processes"], "docker://ghcr.io/processes:latest"),
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
        let told = destination.split(' ').next().unwrap();
        assert!(
            said.stderr.contains("\nCopying container ") && said.stderr.contains(&format!(" to {told}\n\n")),
            "{}",
            said.stderr
        );
        said.ok();
    }
}

/// Rows C4, C5, C15, C16, X9 and N8.
#[test]
fn all_dialects_give_engines_the_same_arguments() {
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
        // Whether the daemon is there is asked before the image is built.
        let ask = (engine == "docker").then_some("version");
        let (pull, forget) = match engine {
            "docker" => ("pull --quiet ADDRESS/processes:latest", "rmi --no-prune ADDRESS/processes:latest"),
            _ => (
                "pull --quiet --tls-verify=false ADDRESS/processes:latest",
                "untag ADDRESS/processes:latest ADDRESS/processes:latest",
            ),
        };
        // podman's pull prints what docker is asked for.
        let find = (engine == "docker").then_some("image inspect --format {{.Id}} ADDRESS/processes:latest");
        let tag = "tag ADDRESS/processes:latest processes:latest";
        let expected = [ask, Some(pull), find, Some(tag), Some(forget), Some(last)];
        let expected: Vec<String> =
            expected.into_iter().flatten().map(|call| format!("{engine} {call}")).collect();
        assert_eq!(calls, expected, "{words:?} {}", said.stderr);
        said.ok();
    }
    // Arguments for skopeo are for skopeo.
    let (said, calls) = recorder.record(&["run", "processes", "--copy-args=--dest-compress"]);
    let copy = "skopeo --insecure-policy copy --src-tls-verify=false --src-authfile=FILE docker://ADDRESS/processes:latest docker-daemon:processes:latest --dest-compress --dest-daemon-host DAEMON";
    assert_eq!(calls, ["docker version", copy, "docker run -i processes:latest"], "{}", said.stderr);
    said.ok();
}

/// Rows C8 and X12: what is declared is evaluated when the container is copied, and gives way to the command line.
#[test]
fn declared_arguments_are_evaluated_when_the_container_is_copied() {
    let nix = harness!();
    let recorder = Recorder::new(&nix, "");
    // As devenv's documentation has them.
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

        // The secret is in nothing that was built, and nothing tells it.
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

/// Debian's registry, which asks for user `x` with the password `TOKEN`.
fn guarded_registry(folder: &Path) -> (Running, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    fs::write(folder.join("htpasswd"), "x:$2b$05$abcdefghijklmnopqrstuuGekgsXhGExpUCLWo7Pa4AzyIIvk8Cs.\n")
        .unwrap();
    let folder = folder.display();
    fs::write(
        format!("{folder}/config.yml"),
        format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: {address}}}\n\
             auth: {{htpasswd: {{realm: nixply, path: {folder}/htpasswd}}}}\n"
        ),
    )
    .unwrap();
    let mut registry =
        Running::start(Command::new("docker-registry").arg("serve").arg(format!("{folder}/config.yml")));
    registry.wait_until(Duration::from_secs(60), |_| std::net::TcpStream::connect(&address).is_ok());
    (registry, address)
}

#[test]
fn copies_reach_registries_with_and_without_credentials() {
    let nix = harness!();
    let open = needs!("NIXPLY_TEST_REGISTRY");
    let project = Project::new(&nix, HELLO);
    let name = unique("-copied");
    project.write("devenv.local.nix", &format!("{{ containers.processes.name = \"{name}\"; }}"));
    let no_tls = "--copy-args=--dest-tls-verify=false";
    let said = run(&mut project.nixply([
        "container",
        "--registry",
        &format!("docker://{open}/"),
        "copy",
        "processes",
        no_tls,
    ]));
    let end = said.stderr.trim_end().lines().last().unwrap_or_default().to_owned();
    assert!(end.starts_with("4 layers, ") && end.contains("; 4 sent ("), "{}", said.stderr);
    said.ok();
    let inspect = |address: &str, more: &[&str]| {
        let reference = format!("docker://{address}/{name}:latest");
        run(skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Name}}"]).args(more).arg(reference))
    };
    assert_eq!(inspect(&open, &[]).ok(), format!("{open}/{name}"));
    // What the registry has is not sent again.
    let said = run(&mut project.nixply([
        "container",
        "copy",
        "processes",
        "-r",
        &format!("docker://{open}/"),
        no_tls,
    ]));
    assert!(said.stderr.trim_end().ends_with("; none sent, 4 already there"), "{}", said.stderr);
    said.ok();

    let folder = tempfile::tempdir().unwrap();
    let (_registry, guarded) = guarded_registry(folder.path());
    let guarded_prefix = format!("docker://{guarded}/");
    let copy = |credentials: &str| {
        let arguments = format!("--copy-args=--dest-creds {credentials} --dest-tls-verify=false");
        run(&mut project.nixply([
            "container",
            "copy",
            "processes",
            "--registry",
            &guarded_prefix,
            &arguments,
        ]))
    };
    // Where a slash is missing, the name is wrong, which is told before anything is packed.
    let said =
        run(&mut project.nixply(["container", "copy", "processes", "-r", &format!("docker://{open}")]))
            .fails();
    let told = format!(
        "error: image name \"{open}{name}\" is not valid: registries take parts of letters and digits with single '.', '_', '__' \
         or dashes between them, joined by '/', 255 bytes at most, as in \"hello\" or \"ghcr.io/nixply/hello\"; a tag is an \
         argument of its own\nhint: end the registry with a slash: docker://{open}/\n"
    );
    assert!(said.ends_with(&told), "{said}");
    // Row C14, with a way out.
    let refused = copy("x:wrong").fails();
    assert!(refused.contains("authentication required") || refused.contains("unauthorized"), "{refused}");
    let end = "\nerror: Failed to copy container\nhint: log in with `skopeo login REGISTRY`, which asks for the password, or name a \
               file with credentials: --copy-args=\"--dest-authfile FILE\"\n";
    assert!(refused.contains(end), "{refused}");
    assert!(!refused.contains("x:wrong"), "{refused}");
    copy("x:TOKEN").ok();
    // As the guides have it: the password is in nobody's arguments.
    let credentials = folder.path().join("auth.json");
    let login = ["login", "--tls-verify=false", "--username", "x", "--password-stdin", "--authfile"];
    run_with_input(Command::new("skopeo").args(login).args([&credentials, Path::new(&guarded)]), "TOKEN")
        .ok();
    let arguments = format!("--copy-args=--authfile {} --dest-tls-verify=false", credentials.display());
    run(&mut project.nixply(["container", "copy", "processes", "--registry", &guarded_prefix, &arguments]))
        .ok();
    assert_eq!(inspect(&guarded, &["--creds", "x:TOKEN"]).ok(), format!("{guarded}/{name}"));

    // Declared: the registry, and a token that a command gives.
    project.set_packages(r#"{ flyctl = pkgs.writeShellScriptBin "flyctl" "echo TOKEN"; }"#);
    run(Command::new("cp")
        .arg(Nix::repository().join("tests/devenv/examples/registry/devenv.nix"))
        .arg(project.path()))
    .ok();
    let declared = unique("-declared");
    project.write(
        "devenv.local.nix",
        &format!(
            r#"{{ lib, ... }}: {{ containers.processes = {{ name = "{declared}"; registry = lib.mkForce "{guarded_prefix}";
                 defaultCopyArgs = [ "--dest-tls-verify=false" ]; }}; }}"#
        ),
    );
    project.container("copy processes").ok();
    let reference = format!("docker://{guarded}/{declared}:latest");
    run(skopeo(&["inspect", "--tls-verify=false", "--creds", "x:TOKEN"]).arg(reference)).ok();
}

#[test]
fn what_is_wrong_is_said_with_a_way_out() {
    let nix = harness!();
    let project = Project::new(&nix, HELLO);
    let fails_with = |code: i32, words: &str| {
        let said = project.container(words);
        assert_eq!((said.code, &*said.stdout), (Some(code), ""), "{words}: {}", said.stderr);
        said.stderr
    };
    let fails = |words: &str| fails_with(1, words);
    // Row C10, with what devenv does not say.
    assert_eq!(
        fails("build proceses"),
        "error: there is no container \"proceses\": there are processes, shell\nhint: did you mean processes?\n"
    );
    assert_eq!(
        fails("build web.app"),
        "error: there is no container \"web.app\": there are processes, shell\nhint: containers.\"web.app\" makes one\n"
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
    let told = fails("build shell");
    assert!(told.contains("cannot use the option `packagse` of "), "{told}");
    assert!(told.contains("unknown option, did you mean `packages`?"), "{told}");
    project.write("devenv.nix", "{ packages = [ ; }");
    assert!(fails("build shell").contains("syntax error"));
    project.write("devenv.nix", r#"{ containers.web = { registry = null; startupCommand = "true"; }; }"#);
    assert!(fails("copy web").contains(
        "error: containers.web: it has no registry; set containers.web.registry, or give --registry\n"
    ));

    fs::remove_file(project.path().join("devenv.nix")).unwrap();
    let said = fails("build shell");
    assert!(
        said.starts_with("error: there is no devenv.nix in ")
            && said.contains("hint: `nixply init` writes one"),
        "{said}"
    );
    assert!(fails("build shell -f nowhere.nix").contains("nowhere.nix"));
}

#[test]
fn missing_engines_and_silent_daemons_are_told_apart() {
    let nix = harness!();
    let project = Project::new(&nix, HELLO);
    project.build("processes");
    let mut command = project.nixply(["container", "run", "processes"]);
    // Nix' programs alone, and what it needs of the machine's.
    let bin = tempfile::tempdir().unwrap();
    for program in ["sh", "git"] {
        if let Ok(at) = fs::canonicalize(Path::new("/usr/bin").join(program)) {
            std::os::unix::fs::symlink(at, bin.path().join(program)).unwrap();
        }
    }
    command.env("PATH", format!("{}:{}", nix.bin.display(), bin.path().display()));
    assert_eq!(
        run(&mut command).fails().lines().rev().take(2).collect::<Vec<_>>(),
        [
            "hint: install one of them, or copy the container elsewhere: `nixply container copy`",
            "error: there is neither docker nor podman on PATH"
        ]
    );
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

/// Where no engine is named, podman takes the place of a docker that does not answer. Nothing is built for one that is named.
#[test]
fn podman_runs_where_docker_does_not_answer() {
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
        let warning = format!("warning: docker {what}: podman runs the container");
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

/// What a container declares is known when it is evaluated, and wrong before it is packed.
#[test]
fn a_declared_destination_that_takes_nothing_is_told_before_the_image_is_packed() {
    let nix = harness!();
    let project = Project::new(
        &nix,
        r#"{ containers.web = { registry = "HOST/me/"; startupCommand = "true"; };
             containers.daemon = { startupCommand = "true"; defaultCopyArgs = [ "--dest-daemon-host" "unix:///nowhere.sock" ]; }; }"#,
    );
    let fails = |words: &str| {
        let said = project.container(words).fails();
        assert!(!said.contains("Copying container") && !said.contains("layer"), "{said}");
        assert!(!project.path().join(".devenv").exists(), "nothing was built");
        said
    };
    // Nix may have said something of what it builds to evaluate.
    let said = fails("copy web");
    assert!(
        said.ends_with(
            "error: containers.web.registry: \"HOST/me/\" names no transport\n\
             hint: containers.web.registry = \"docker://HOST/me/\";\n"
        ),
        "{said}"
    );
    let said = fails("copy daemon");
    assert!(
        said.contains(
            "error: there is no Docker daemon at unix:///nowhere.sock\nhint: start Docker, or set DOCKER_HOST"
        ),
        "{said}"
    );
}

/// `ln -s real.txt link.txt`, and the container that copies it.
#[test]
fn copy_to_root_link_of_a_project_is_a_link_in_the_container() {
    let nix = harness!();
    let project = Project::new(
        &nix,
        r#"{ name = "example"; containers.prod = { copyToRoot = ./link.txt; startupCommand = "ls -l /env"; }; }"#,
    );
    project.write("real.txt", "content\n");
    std::os::unix::fs::symlink("real.txt", project.path().join("link.txt")).unwrap();
    let spec: Value = serde_json::from_str(&fs::read_to_string(project.build("prod")).unwrap()).unwrap();
    let layers = spec["layers"].as_array().unwrap();
    let mut paths = layers.iter().flat_map(|layer| layer["paths"].as_array().into_iter().flatten());
    let home = paths.find_map(|path| path["path"].as_str().filter(|path| path.ends_with("-container-home")));
    let link = Path::new(home.expect("there is a home layer")).join("env/link.txt");
    assert_eq!(fs::read_link(link).unwrap(), Path::new("real.txt"));
}

/// The plugin of another Nix says so in a line, and the container is built without it.
#[test]
fn a_plugin_for_another_nix_is_told_and_left_out() {
    let nix = harness!();
    let other = needs!("NIXPLY_TEST_OTHER_PLUGIN");
    if other.is_empty() {
        return nixply_tests::skipped("only one Nix is set up");
    }
    let project = Project::new(&nix, HELLO);
    let mut command = project.nixply(["container", "build", "shell"]);
    project.prepare_with(&mut command, &format!("plugin-files = {other}\n"));
    let said = run(&mut command);
    assert!(
        said.stderr.contains("warning: nixply: plugin not loaded: it was built for Nix "),
        "{}",
        said.stderr
    );
    let spec = said.ok();
    assert_eq!(fs::read(spec).unwrap(), fs::read(project.build("shell")).unwrap());
}

/// What another machine would have to build.
#[test]
fn a_system_without_a_builder_is_told_with_a_way_out() {
    let nix = harness!();
    let project = Project::new(
        &nix,
        r#"{ lib, ... }: { containers.far.derivation = lib.mkForce (derivation {
            name = "far"; system = "riscv64-linux"; builder = "/bin/sh"; }); }"#,
    );
    let said = project.container("build far --system x86_64-linux").fails();
    assert!(said.contains("riscv64-linux"), "{said}");
    let hint = "hint: what is built for another system than this machine's takes a builder: see `builders` in nix.conf\n";
    assert!(said.ends_with(hint), "{said}");
}

/// What git ignores may be secret: it is not copied, and neither is git's own.
#[test]
fn projects_in_git_are_copied_without_what_git_ignores() {
    let nix = harness!();
    let project = Project::new(&nix, "{ }");
    project.write(".gitignore", "secret\nbuild/\n");
    for file in ["secret", "build/output", "folder/kept", "new file"] {
        project.write(file, file);
    }
    run(Command::new("git").args(["init", "--quiet"]).current_dir(project.path())).ok();
    run(Command::new("git").args(["add", ".gitignore", "devenv.nix", "folder"]).current_dir(project.path()))
        .ok();
    let home = |project: &Project| {
        let spec = fs::read_to_string(project.build("shell")).unwrap();
        let spec: Value = serde_json::from_str(&spec).unwrap();
        let layers = spec["layers"].as_array().unwrap();
        let paths = layers.iter().flat_map(|layer| layer["paths"].as_array().into_iter().flatten());
        let home =
            paths.map(|path| path["path"].as_str().unwrap()).find(|path| path.ends_with("-container-home"));
        let home = Path::new(home.expect("there is a home layer")).join("env");
        let mut found = run(Command::new("find").arg(".").args(["-type", "f"]).current_dir(home)).ok();
        found.push('\n');
        let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
        found.sort();
        found
    };
    assert_eq!(home(&project), ["./.gitignore", "./devenv.nix", "./folder/kept", "./new file"]);
    // Submodules are part of the project.
    let other = Project::new(&nix, "{ }");
    let git = |folder: &Path, arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]);
        run(git.args(arguments).current_dir(folder)).ok();
    };
    git(other.path(), &["init", "--quiet"]);
    git(other.path(), &["add", "."]);
    git(other.path(), &["commit", "--quiet", "--message", "one"]);
    git(project.path(), &["submodule", "--quiet", "add", other.path().to_str().unwrap(), "sub"]);
    assert_eq!(
        home(&project),
        ["./.gitignore", "./.gitmodules", "./devenv.nix", "./folder/kept", "./new file", "./sub/devenv.nix"]
    );
    fs::remove_dir_all(project.path().join("sub")).unwrap();
    fs::remove_file(project.path().join(".gitmodules")).unwrap();
    // Without git, all but what tools keep there.
    fs::remove_dir_all(project.path().join(".git")).unwrap();
    assert_eq!(
        home(&project),
        ["./.gitignore", "./build/output", "./devenv.nix", "./folder/kept", "./new file", "./secret"]
    );
}

/// Where git does not say what it ignores, nothing is copied; and a hook's variables name another repository.
#[test]
fn a_project_whose_git_fails_is_not_copied() {
    let nix = harness!();
    let project = Project::new(&nix, "{ }");
    project.write(".gitignore", "secret\n.devenv\n");
    project.write("secret", "a secret");
    run(Command::new("git").args(["init", "--quiet"]).current_dir(project.path())).ok();
    run(Command::new("git").args(["add", "."]).current_dir(project.path())).ok();
    let spec = project.build("shell");
    let mut hooked = project.nixply(["container", "build", "shell"]);
    hooked.env("GIT_DIR", "/nowhere/.git").env("GIT_INDEX_FILE", "/nowhere/index").env("GIT_PREFIX", "x/");
    assert_eq!(run(&mut hooked).ok(), spec.to_str().unwrap());
    // Not the user's own variable for devenv, either.
    let mut named = project.nixply(["container", "build", "shell"]);
    assert_eq!(run(named.env("DEVENV_CONTAINER", "processes")).ok(), spec.to_str().unwrap());

    fs::write(project.path().join(".git/index"), "damaged").unwrap();
    let said = project.container("build shell");
    assert_eq!((said.code, &*said.stdout), (Some(1), ""));
    assert!(
        said.stderr.contains("error: git cannot say which files of ") && said.stderr.contains("index"),
        "{}",
        said.stderr
    );
}

/// What is kept of results is in the way of none, and git does not see it.
#[test]
fn links_to_results_are_made_anew() {
    let nix = harness!();
    let project = Project::new(&nix, "{ }");
    let spec = project.build("shell");
    assert_eq!(fs::read_to_string(project.path().join(".devenv/.gitignore")).unwrap(), "*\n");
    let link = project.path().join(".devenv/gc/container-shell-derivation");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/nowhere", &link).unwrap();
    assert_eq!(project.build("shell"), spec);
    assert_eq!(fs::read_link(&link).unwrap(), spec);
    fs::remove_file(&link).unwrap();
    fs::write(&link, "a file").unwrap();
    let said = project.container("build shell");
    assert!(said.stderr.contains("warning: ") && said.stderr.contains("is in the way"), "{}", said.stderr);
    assert_eq!(
        (said.ok(), fs::read_to_string(&link).unwrap()),
        (spec.display().to_string(), "a file".into())
    );
}

/// The folder that is nearest, not the first kind of file.
#[test]
fn the_nearest_project_is_meant() {
    let nix = harness!();
    let project = Project::new(&nix, r#"{ name = "outer"; containers.a.copyToRoot = null; }"#);
    project.write("inner/devenv.nix", r#"{ name = "inner"; containers.a.copyToRoot = null; }"#);
    fs::create_dir_all(project.path().join("inner/deep")).unwrap();
    let mut command = project.nixply(["container", "build", "a"]);
    assert!(
        run(command.current_dir(project.path().join("inner/deep"))).ok().ends_with("-image-inner-a.json")
    );
    project.write("inner/flake/flake.nix", "{ outputs = _: throw \"the flake's\"; }");
    let mut command = project.nixply(["container", "build", "a"]);
    let said = run(command.current_dir(project.path().join("inner/flake"))).fails();
    assert!(!project.path().join("inner/flake/.devenv").exists() && said.contains("flake"), "{said}");
}

/// As a job's end in CI: what works for it ends, too, and leaves nothing behind.
#[test]
fn a_signal_ends_all_that_is_at_work() {
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
        // To nixply alone, not to its group.
        running.signal_alone(signal);
        let said = running.finish(Duration::from_secs(60));
        assert_eq!(said.code, Some(code), "{}", said.stderr);
        assert!(said.stderr.ends_with("error: interrupted\n") && said.stdout.is_empty(), "{}", said.stderr);
        // Whatever it started has its environment.
        let environment = temporary.path().to_str().unwrap();
        let at_work = fs::read_dir("/proc").unwrap().filter_map(|process| {
            let has = fs::read(process.as_ref().ok()?.path().join("environ")).ok()?;
            String::from_utf8_lossy(&has).contains(environment).then(|| process.unwrap().path())
        });
        assert_eq!(at_work.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
        // What a build of Nix' leaves there is Nix'.
        let left = fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let ours: Vec<_> = left.filter(|name| !name.to_str().unwrap().starts_with("nix-build-")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

#[test]
fn a_missing_skopeo_is_told_with_a_way_out() {
    let nix = harness!();
    let project = Project::new(&nix, HELLO);
    let mut command = project.nixply(["container", "copy", "processes", "-r", "docker://127.0.0.1:1/"]);
    let said = run(command.env("NIXPLY_SKOPEO", "/nowhere/skopeo")).fails();
    assert!(said.contains("error: cannot start the real skopeo, /nowhere/skopeo: "), "{said}");
    assert!(said.contains("\nhint: install skopeo, or name it in NIXPLY_SKOPEO\n"), "{said}");
}

#[test]
fn init_writes_an_environment_that_builds() {
    let nix = harness!();
    let project = Project::empty(&nix);
    let said = run(&mut project.nixply(["init"]));
    assert!(said.stderr.contains("nixply container run hello"), "{}", said.stderr);
    said.ok();
    let spec = project.build("hello");
    assert!(spec.to_str().unwrap().ends_with("-hello.json"), "{}", spec.display());
    let before = fs::read_to_string(project.path().join("devenv.nix")).unwrap();
    let inode = fs::metadata(project.path().join("devenv.nix")).unwrap().ino();
    let refused = run(&mut project.nixply(["init"])).fails();
    assert_eq!(refused, "error: ./devenv.nix is there already\nhint: nothing was changed\n");
    assert_eq!(fs::read_to_string(project.path().join("devenv.nix")).unwrap(), before);
    assert_eq!(fs::metadata(project.path().join("devenv.nix")).unwrap().ino(), inode);
}

/// Row N9: the plugin and a derivation make the same image.
#[test]
fn plugin_and_derivation_make_the_same_container() {
    let nix = nixply_tests::plugin_harness!();
    let project = Project::new(&nix, HELLO);
    for name in ["shell", "processes"] {
        let packed = fs::read(project.build(name)).unwrap();
        let mut command = project.nixply(["container", "build", name]);
        project.prepare_with(&mut command, "");
        let derived = run(&mut command).ok();
        assert_eq!(fs::read(&derived).unwrap(), packed, "{name}");
        assert_ne!(derived, project.build(name).to_str().unwrap(), "they are made in different ways");
    }
}

/// An environment whose layers a lock file has, with these packages besides, and further modules' lines.
fn locked(packages: &str, more: &str) -> String {
    format!(
        r#"{{ pkgs, lib, ... }}: {{
            packages = [ pkgs.hello {packages} ];
            containers.web = {{
              copyToRoot = null; startupCommand = "hello"; layers = [ {{ deps = [ pkgs.glibc ]; }} ];
              maxLayers = 4; lock = ./nixply.lock.json;
            }};
            {more}
        }}"#
    )
}

/// The environment's layers: with digests, and paths' names without their hashes. Below them lies glibc's, and above them
/// there are those of the home folder and the Nix database; a command that is text has none.
fn environment(spec: &Path) -> Vec<(String, BTreeSet<String>)> {
    let spec: Value = serde_json::from_str(&fs::read_to_string(spec).unwrap()).unwrap();
    let layer = |layer: &Value| {
        let paths = layer["paths"].as_array().unwrap().iter();
        let name = |path: &Value| {
            Path::new(path["path"].as_str().unwrap()).file_name().unwrap().to_str().unwrap()[33..].to_owned()
        };
        (layer["digest"].as_str().unwrap().to_owned(), paths.map(name).collect())
    };
    let layers: Vec<(String, BTreeSet<String>)> =
        spec["layers"].as_array().unwrap().iter().map(layer).collect();
    let is_own = |(_, paths): &&(String, BTreeSet<String>)| {
        !paths
            .iter()
            .any(|path| path.starts_with("glibc-") || path == "container-home" || path == "nix-database")
    };
    layers.iter().filter(is_own).cloned().collect()
}

#[test]
fn a_lock_file_keeps_the_environments_layers() {
    let nix = harness!();
    let project = Project::new(&nix, &locked("", ""));
    let file = project.path().join("nixply.lock.json");
    let text = || fs::read_to_string(&file).unwrap();
    let lock = |words: &str, news: &str| {
        let said = project.container(words);
        assert!(said.stderr.ends_with(&format!("{} {news}\n", file.display())), "{}", said.stderr);
        said.ok()
    };
    let said = project.container("build web").fails();
    let missing = format!(
        "containers.web.lock: {} does not exist; create it with `nixply container lock web`",
        file.display()
    );
    assert!(said.contains(&missing), "{said}");
    assert_eq!(lock("lock web", "is new: web"), "");
    let first = text();
    let json = lock("lock web --json", "stays as it was: web");
    assert_eq!(
        serde_json::from_str::<Value>(&json).unwrap(),
        serde_json::json!({"container": "web", "lock": file.to_str().unwrap()})
    );
    assert_eq!(text(), first);

    // Not what would be planned without it: two layers, whose paths take turns.
    let mut value: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(value["images"], serde_json::json!({"web": 4}));
    let layers = value["layers"].as_array().unwrap().clone();
    let keys: Vec<&Value> = layers.iter().flat_map(|layer| layer["paths"].as_array().unwrap()).collect();
    let name = |key: &&Value| {
        let key = key.as_str().unwrap().trim_end_matches("@web");
        value["paths"][key]["path"].as_str().unwrap()[33..].to_owned()
    };
    assert!(!keys.iter().map(name).any(|name| name.starts_with("glibc")), "{first}");
    let halves =
        [0, 1].map(|half| keys.iter().skip(half).step_by(2).copied().cloned().collect::<Vec<Value>>());
    let expected = halves.each_ref().map(|half| half.iter().collect::<Vec<_>>().iter().map(name).collect());
    let half = |half: Vec<Value>| {
        let mut half: Vec<String> = half.iter().map(|key| key.as_str().unwrap().to_owned()).collect();
        half.sort();
        serde_json::json!({"images": ["web"], "paths": half})
    };
    value["layers"] = halves.map(half).into_iter().collect();
    fs::write(&file, value.to_string()).unwrap();
    let packed = project.build("web");
    let before = environment(&packed);
    let sets = |layers: &[(String, BTreeSet<String>)]| {
        layers.iter().map(|(_, paths)| paths.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(sets(&before), BTreeSet::from(expected));
    if nix.plugin.is_some() {
        let mut command = project.nixply(["container", "build", "web"]);
        project.prepare_with(&mut command, "");
        assert_eq!(fs::read(run(&mut command).ok()).unwrap(), fs::read(&packed).unwrap());
    }

    // Another package, and with it other hashes of what refers to all: nothing moves.
    project.write("devenv.nix", &locked("pkgs.jq", ""));
    let after = environment(&project.build("web"));
    let new = |paths: &BTreeSet<String>| paths.iter().any(|path| path.starts_with("jq-"));
    for (_, paths) in &before {
        assert!(after.iter().any(|(_, others)| paths.is_subset(others)), "{paths:?} {after:?}");
    }
    assert!(after.iter().any(|(_, paths)| new(paths)), "{after:?}");
    assert!(!text().contains("\"jq\""));
    lock("lock web", "has changed: web");
    assert!(text().contains("\"jq\""), "{}", text());
    let placed: Value = serde_json::from_str(&text()).unwrap();
    assert_eq!(environment(&project.build("web")).len(), placed["layers"].as_array().unwrap().len());
}

#[test]
fn containers_with_one_lock_file_are_planned_together() {
    let nix = harness!();
    let worker = r#"containers.worker = {
        copyToRoot = null; startupCommand = "hello"; layers = [ { deps = [ pkgs.glibc ]; } ]; maxLayers = 2;
        lock = ./nixply.lock.json;
    };"#;
    let project = Project::new(&nix, &locked("", ""));
    project.container("lock web").ok();
    project.write("devenv.nix", &locked("", worker));
    let file = project.path().join("nixply.lock.json");
    let said = project.container("build worker").fails();
    let unknown = format!(
        "containers.worker.lock: {} does not contain this container; add it with `nixply container lock worker`",
        file.display()
    );
    assert!(said.contains(&unknown), "{said}");
    let said = project.container("lock worker");
    assert!(said.stderr.ends_with("has changed: web, worker\n"), "{}", said.stderr);
    said.ok();
    let lock: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(lock["images"], serde_json::json!({"web": 4, "worker": 2}));
    let [web, worker] = ["web", "worker"].map(|name| environment(&project.build(name)));
    assert!(web.len() <= 4 && worker.len() <= 2, "{web:?} {worker:?}");
    assert!(web.iter().any(|layer| worker.contains(layer)), "{web:?} {worker:?}");

    // One of them is no more.
    project.write("devenv.nix", &locked("", ""));
    let said = project.container("lock web").fails();
    assert!(said.contains("it has worker, too") && said.contains("--forget worker"), "{said}");
    project.container("lock web --forget worker").ok();
    let lock: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(lock["images"], serde_json::json!({"web": 4}));
    let said = project.container("lock web --forget worker").fails();
    assert!(said.contains("nixply.lock.json has no container \"worker\""), "{said}");

    let said = project.container("lock shell").fails();
    assert!(
        said.ends_with(
            "error: container \"shell\" names no lock file\n\
             hint: containers.shell.lock = ./nixply.lock.json; in its devenv.nix names one\n"
        ),
        "{said}"
    );
    // What a lock file is not for.
    for (more, other) in [
        (r#"containers.web.strategy = "size";"#, "strategy \"size\""),
        ("containers.web.groups = [ [ pkgs.hello ] ];", "groups"),
    ] {
        project.write("devenv.nix", &locked("", more));
        for words in ["build web", "lock web"] {
            let said = project.container(words).fails();
            let why = format!(
                "containers.web.lock: a lock file requires strategy \"nixply\", but this container uses {other}; remove one of them"
            );
            assert!(said.contains(&why), "{words}: {said}");
        }
    }
    // A container's name need not be an image's, and one file can be spelt in several ways.
    let named = format!(
        r#"containers."my web" = {{
            name = "myweb"; copyToRoot = null; startupCommand = "hello"; maxLayers = 3; lock = "{}/../{}/nixply.lock.json";
        }};"#,
        project.path().display(),
        project.path().file_name().unwrap().to_str().unwrap()
    );
    project.write("devenv.nix", &locked("", &named));
    assert!(project.container("lock web").stderr.ends_with("has changed: my web, web\n"));
    let lock: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(lock["images"], serde_json::json!({"my web": 3, "web": 4}));
    assert!(
        environment(Path::new(&run(&mut project.nixply(["container", "build", "my web"])).ok())).len() <= 3
    );
    // A link is followed.
    let real = project.path().join("real.json");
    fs::rename(&file, &real).unwrap();
    std::os::unix::fs::symlink("real.json", &file).unwrap();
    assert!(environment(&project.build("web")).len() <= 4);
    // A conflict that nobody has settled.
    let text = fs::read_to_string(&real).unwrap();
    fs::write(&real, format!("<<<<<<< ours\n{text}=======\n{text}>>>>>>> theirs\n")).unwrap();
    let said = project.container("build web").fails();
    assert!(
        said.contains("has merge conflict markers; keep either side, then run `nixply container lock web`"),
        "{said}"
    );
    let said = project.container("lock web").fails();
    assert!(said.contains("of a conflict's two sides take one, and update it"), "{said}");
    fs::write(&real, text).unwrap();
    // Neither is there a way to write to the store.
    let stored = locked("", "").replace("./nixply.lock.json", r#""${builtins.storeDir}/lock.json""#);
    project.write("devenv.nix", &stored);
    let said = project.container("lock web").fails();
    assert!(said.contains("where it cannot be written: name a file of the project"), "{said}");
}
