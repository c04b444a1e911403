//! Errors of `nixply init` and `nixply container` before Nix is called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A project, and a PATH with only these programs.
struct Project {
    directory: TempDir,
    programs: TempDir,
}

impl Project {
    fn new() -> Self {
        let project =
            Self { directory: tempfile::tempdir().unwrap(), programs: tempfile::tempdir().unwrap() };
        fs::write(project.path("devenv.nix"), "{ }").unwrap();
        project.program("nix", "echo evaluated >&2; exit 1");
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.programs.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env_clear().env("PATH", self.programs.path()).env("HOME", self.directory.path());
        command
    }

    /// Returns standard error of a failing command.
    #[track_caller]
    fn fails(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let output = self.command(arguments).envs(variables.iter().copied()).output().unwrap();
        let (code, out, error) = said(&output);
        assert!(code == Some(1) && out.is_empty(), "{arguments:?}: {output:?}");
        error
    }
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs the printed command between backquotes in a shell. `nixply` there prints its directory and arguments.
fn printed_command(project: &Project, message: &str) -> (String, String) {
    let command = message.split('`').nth(1).unwrap_or_else(|| panic!("{message}")).to_owned();
    project.program("nixply", "pwd; echo \"$@\"");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &command]).current_dir(project.directory.path()).env("PATH", project.programs.path());
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    (command, String::from_utf8(output.stdout).unwrap())
}

#[test]
fn init_prints_a_command_for_the_current_directory() {
    let project = Project::new();
    let here = project.directory.path().canonicalize().unwrap();
    let absolute = here.join("absolute").display().to_string();
    for (directory, command) in [
        ("app", "cd app && nixply container run hello".to_owned()),
        ("a/nested/one/", "cd a/nested/one/ && nixply container run hello".to_owned()),
        ("my app", "cd 'my app' && nixply container run hello".to_owned()),
        ("it's $HOME; *", "cd \"it's \"'$HOME; *' && nixply container run hello".to_owned()),
        ("./dot", "cd ./dot && nixply container run hello".to_owned()),
        ("-dash", "cd ./-dash && nixply container run hello".to_owned()),
        (&*absolute, format!("cd {absolute} && nixply container run hello")),
    ] {
        let output = project.command(&["init", "--", directory]).output().unwrap();
        let (code, out, error) = said(&output);
        assert_eq!((code, &*out), (Some(0), ""), "{error}");
        let wrote = here.join(directory).join("devenv.nix");
        assert!(wrote.is_file(), "{error}");
        let (printed, ran) = printed_command(&project, &error);
        // A directory with a single quote can be quoted in several forms: only the result of the command counts.
        if !directory.contains('\'') {
            assert_eq!(printed, command);
        }
        let directory = here.join(directory).canonicalize().unwrap();
        assert_eq!(ran, format!("{}\ncontainer run hello\n", directory.display()), "{printed}");
    }
}

#[test]
fn init_in_the_current_directory_prints_no_cd() {
    let project = Project::new();
    let here = project.directory.path().canonicalize().unwrap().display().to_string();
    fs::create_dir(project.path("other")).unwrap();
    for directory in [None, Some("."), Some("./"), Some("other/.."), Some(&*here)] {
        fs::remove_file(project.path("devenv.nix")).unwrap();
        let arguments: Vec<&str> = ["init"].into_iter().chain(directory).collect();
        let (code, _, error) = said(&project.command(&arguments).output().unwrap());
        assert!(
            code == Some(0) && error.contains("; run its container with `nixply container run hello`"),
            "{error}"
        );
    }
}

#[test]
fn init_in_a_file_is_an_error() {
    let project = Project::new();
    fs::write(project.path("file"), "text").unwrap();
    std::os::unix::fs::symlink("nowhere", project.path("dangling")).unwrap();
    for (directory, what) in [("file", "file"), ("file/app", "file"), ("dangling", "dangling")] {
        assert_eq!(
            project.fails(&["init", directory], &[]),
            format!(
                "error: cannot create the project {directory}: {what} is not a directory\nhint: pass another directory\n"
            )
        );
    }
    assert_eq!(fs::read_to_string(project.path("file")).unwrap(), "text");
}

#[test]
fn missing_transport_is_an_error_before_evaluation() {
    let project = Project::new();
    let copy = |registry: &str| project.fails(&["container", "copy", "hello", "--registry", registry], &[]);
    assert_eq!(
        copy("HOST/me/"),
        "error: \"HOST/me/\" has no transport\nhint: did you mean docker://HOST/me/?\n"
    );
    assert_eq!(
        copy("localhost:5000/"),
        "error: \"localhost:5000/\" has no transport\nhint: did you mean docker://localhost:5000/?\n"
    );
    assert_eq!(
        copy("docekr://ghcr.io/me/"),
        "error: \"docekr://ghcr.io/me/\" has a transport that skopeo cannot copy to, docekr\n\
         hint: did you mean docker://ghcr.io/me/?\n"
    );
    assert!(copy("s3:bucket/").ends_with(
        "hint: use one of containers-storage, dir, docker, docker-archive, docker-daemon, oci, oci-archive, ostree, as in \
         docker://ghcr.io/me/\n"
    ));
    // The older syntaxes have the same error.
    for arguments in [
        &["container", "--registry", "HOST/me/", "copy", "hello"][..],
        &["container", "hello", "--copy", "--registry=HOST/me/"],
    ] {
        let said = project.fails(arguments, &[]);
        assert!(
            said.ends_with("error: \"HOST/me/\" has no transport\nhint: did you mean docker://HOST/me/?\n"),
            "{said}"
        );
    }
    // With a valid registry, nixply evaluates the container. `false` is devenv's word for the container's own registry.
    for registry in ["docker://HOST/me/", "oci:images/", "false"] {
        assert!(copy(registry).contains("evaluated\n"), "{registry}");
    }
}

#[test]
fn missing_docker_daemon_is_an_error_before_evaluation() {
    let project = Project::new();
    let socket = project.path("docker.sock");
    let host = format!("unix://{}", socket.display());
    let host = host.as_str();
    let copy = |variables: &[(&str, &str)], more: &[&str]| {
        let arguments = ["container", "copy", "hello", "--registry", "docker-daemon:"];
        project.fails(&[&arguments[..], more].concat(), variables)
    };
    let hint = "hint: start Docker, or set DOCKER_HOST to its address; copy to a registry with --registry docker://REGISTRY/, or to \
                podman with --registry containers-storage:\n";
    assert_eq!(
        copy(&[("DOCKER_HOST", host)], &[]),
        format!("error: no Docker daemon is running at {host}\n{hint}")
    );
    if !Path::new("/var/run/docker.sock").exists() {
        let nowhere = "error: no Docker daemon is running at unix:///var/run/docker.sock\n";
        assert_eq!(copy(&[], &[]), format!("{nowhere}{hint}"));
    }
    let said = copy(&[("DOCKER_HOST", "tcp://127.0.0.1:1")], &[]);
    assert!(said.starts_with("error: no Docker daemon is running at tcp://127.0.0.1:1\n"), "{said}");
    let said = copy(&[("DOCKER_HOST", "ssh://me@host")], &[]);
    let expected =
        "error: DOCKER_HOST is ssh://me@host, but skopeo can only copy to a Docker daemon at unix: or tcp:\n";
    assert!(said.starts_with(expected), "{said}");
    // With a listening daemon, nixply evaluates the container, whether a variable or a flag names the socket.
    let _daemon = UnixListener::bind(&socket).unwrap();
    assert!(copy(&[("DOCKER_HOST", host)], &[]).contains("evaluated\n"));
    let option = format!("--copy-args=--dest-daemon-host {host}");
    assert!(copy(&[("DOCKER_HOST", "unix:///nowhere")], &[&option]).contains("evaluated\n"));
}

const DOWN: &str =
    "echo 'Cannot connect to the Docker daemon at unix:///a.sock. Is the docker daemon running?' >&2; exit 1";

#[test]
fn unavailable_engine_is_an_error_before_evaluation() {
    let project = Project::new();
    let run = ["container", "run", "hello", "--engine", "docker"];
    project.program("docker", DOWN);
    assert_eq!(
        project.fails(&run, &[]),
        "Cannot connect to the Docker daemon at unix:///a.sock. Is the docker daemon running?\n\
         error: docker does not answer\nhint: start docker's daemon\n"
    );
    project.program("podman", "exit 0");
    let said = project.fails(&run, &[("DOCKER_HOST", "tcp://far:2375")]);
    assert!(
        said.ends_with("hint: start docker's daemon at tcp://far:2375, or use --engine podman\n"),
        "{said}"
    );
    let refusal = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock";
    project.program("docker", &format!("echo '{refusal}' >&2; exit 1"));
    assert_eq!(
        project.fails(&run, &[]),
        format!(
            "{refusal}\nerror: docker refuses this user\n\
             hint: add your user to the group docker and log in again, or use --engine podman\n"
        )
    );
    // A remote podman that does not answer.
    project.program("podman", "[ \"$1\" != info ] || { echo 'Cannot connect to Podman' >&2; exit 125; }");
    let said = project
        .fails(&["container", "run", "hello", "--engine", "podman"], &[("CONTAINER_HOST", "tcp://far:1")]);
    assert!(said.contains("error: podman does not answer\n") && !said.contains("evaluated"), "{said}");
}

#[test]
fn podman_is_used_if_docker_does_not_answer() {
    let project = Project::new();
    let run = ["container", "run", "hello"];
    project.program("docker", DOWN);
    let said = project.fails(&run, &[]);
    assert!(said.ends_with("error: docker does not answer\nhint: start docker's daemon\n"), "{said}");
    project.program("podman", "exit 0");
    let said = project.fails(&run, &[]);
    assert!(said.starts_with("warning: docker does not answer: using podman\nevaluated\n"), "{said}");
    // No warning if docker answers or is not installed.
    project.program("docker", "exit 0");
    assert!(project.fails(&run, &[]).starts_with("evaluated\n"));
    fs::remove_file(project.programs.path().join("docker")).unwrap();
    assert!(project.fails(&run, &[]).starts_with("evaluated\n"));
    let said = project.fails(&[&run[..], &["--engine", "docker"]].concat(), &[]);
    assert_eq!(said, "error: cannot find docker on PATH\nhint: install docker, or use --engine podman\n");
    fs::remove_file(project.programs.path().join("podman")).unwrap();
    let said = project.fails(&run, &[]);
    assert!(said.starts_with("error: cannot find docker") && said.contains("podman"), "{said}");
}

#[test]
fn unclosed_quotes_in_engine_args_are_errors() {
    let project = Project::new();
    project.program("podman", "exit 0");
    let said = project.fails(&["container", "run", "hello", "--engine-args", "--env 'A=b"], &[]);
    assert_eq!(
        said,
        "error: --engine-args \"--env 'A=b\": a quote is not closed\n\
         hint: quote an option with a space in it, as in --engine-args \"--env 'GREETING=good morning'\"\n"
    );
}
