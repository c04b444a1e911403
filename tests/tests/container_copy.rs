//! `nixply container copy`: registries with and without credentials, and invalid destinations.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nixply_tests::engines::{skopeo, unique};
use nixply_tests::{Nix, Project, Running, harness, needs, run, run_with_input};

const HELLO: &str = r#"{ processes.hello.exec = "echo Hello"; }"#;

/// Starts Debian's registry with the user `x` and the password `TOKEN`.
fn guarded_registry(directory: &Path) -> (Running, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    fs::write(directory.join("htpasswd"), "x:$2b$05$abcdefghijklmnopqrstuuGekgsXhGExpUCLWo7Pa4AzyIIvk8Cs.\n")
        .unwrap();
    let directory = directory.display();
    fs::write(
        format!("{directory}/config.yml"),
        format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\nhttp: {{addr: {address}}}\n\
             auth: {{htpasswd: {{realm: nixply, path: {directory}/htpasswd}}}}\n"
        ),
    )
    .unwrap();
    let mut registry =
        Running::start(Command::new("docker-registry").arg("serve").arg(format!("{directory}/config.yml")));
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
    // Existing blobs are not sent again.
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

    let directory = tempfile::tempdir().unwrap();
    let (_registry, guarded) = guarded_registry(directory.path());
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
    // A missing slash makes the name invalid, which is reported before packing.
    let said =
        run(&mut project.nixply(["container", "copy", "processes", "-r", &format!("docker://{open}")]))
            .fails();
    let expected = format!(
        "error: image name \"{open}{name}\" is not valid: expected parts of letters and digits, separated by '/', \
         with single '.', '_', '__' or dashes within a part, at most 255 bytes, as in \"hello\" or \"ghcr.io/nixply/hello\"; \
         pass the tag as a separate argument\nhint: end the registry with a slash: docker://{open}/\n"
    );
    assert!(said.ends_with(&expected), "{said}");
    // Wrong credentials.
    let refused = copy("x:wrong").fails();
    assert!(refused.contains("authentication required") || refused.contains("unauthorized"), "{refused}");
    let end = "\nerror: Failed to copy container\nhint: log in with `skopeo login REGISTRY`, or pass a file with \
               credentials: --copy-args=\"--dest-authfile FILE\"\n";
    assert!(refused.contains(end), "{refused}");
    assert!(!refused.contains("x:wrong"), "{refused}");
    copy("x:TOKEN").ok();
    // As in the guides, no command line contains the password.
    let credentials = directory.path().join("auth.json");
    let login = ["login", "--tls-verify=false", "--username", "x", "--password-stdin", "--authfile"];
    run_with_input(Command::new("skopeo").args(login).args([&credentials, Path::new(&guarded)]), "TOKEN")
        .ok();
    let arguments = format!("--copy-args=--authfile {} --dest-tls-verify=false", credentials.display());
    run(&mut project.nixply(["container", "copy", "processes", "--registry", &guarded_prefix, &arguments]))
        .ok();
    assert_eq!(inspect(&guarded, &["--creds", "x:TOKEN"]).ok(), format!("{guarded}/{name}"));

    // devenv.nix declares the registry, and a command that prints a token.
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

/// The registry of a container in devenv.nix is known only after evaluation.
#[test]
fn invalid_registry_of_a_container_is_an_error_before_packing() {
    let nix = harness!();
    let project = Project::new(
        &nix,
        r#"{ containers.web = { registry = "HOST/me/"; startupCommand = "true"; };
             containers.daemon = { startupCommand = "true"; defaultCopyArgs = [ "--dest-daemon-host" "unix:///nowhere.sock" ]; }; }"#,
    );
    let fails = |words: &str| {
        let said = project.container(words).fails();
        assert!(!said.contains("Copying container") && !said.contains("layer"), "{said}");
        assert!(!project.path().join(".devenv").exists(), "the command must not build anything");
        said
    };
    // Nix may have printed messages about builds during evaluation.
    let said = fails("copy web");
    assert!(
        said.ends_with(
            "error: containers.web.registry: \"HOST/me/\" has no transport\n\
             hint: set containers.web.registry = \"docker://HOST/me/\";\n"
        ),
        "{said}"
    );
    let said = fails("copy daemon");
    assert!(
        said.contains(
            "error: no Docker daemon is running at unix:///nowhere.sock\nhint: start Docker, or set DOCKER_HOST"
        ),
        "{said}"
    );
}
