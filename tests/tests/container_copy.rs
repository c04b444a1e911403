//! `nixply container copy`: registries with and without credentials, and invalid destinations.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nixply_tests::engines::{Registry, json, sha256, skopeo, text, unique};
use nixply_tests::{Nix, Output, Project, Running, harness, needs, run, run_with_input};

const HELLO: &str = r#"{ processes.hello.exec = "echo Hello"; }"#;

/// Starts Debian's registry with these settings of its section `http`, and other sections.
fn start_registry(directory: &Path, http: &str, more: &str) -> (Running, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let config = directory.join("config.yml");
    let data = directory.join("data");
    let settings = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"{http}}}\n{more}",
        data.display()
    );
    fs::write(&config, settings).unwrap();
    let mut registry = Running::start(Command::new("docker-registry").arg("serve").arg(config));
    registry.wait_until(Duration::from_secs(60), |_| std::net::TcpStream::connect(&address).is_ok());
    (registry, address)
}

/// Starts a registry with the user `x` and the password `TOKEN`.
fn guarded_registry(directory: &Path) -> (Running, String) {
    let users = directory.join("htpasswd");
    fs::write(&users, "x:$2b$05$abcdefghijklmnopqrstuuGekgsXhGExpUCLWo7Pa4AzyIIvk8Cs.\n").unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: nixply, path: {}}}}}\n", users.display());
    start_registry(directory, "", &auth)
}

/// Starts a registry with TLS. Its authority's certificate is `ca.crt` in the directory.
fn encrypted_registry(nix: &Nix, directory: &Path) -> (Running, String) {
    let openssl = nix.build("pkgs.openssl").join("bin/openssl");
    let run = |words: &str| {
        let mut command = Command::new(&openssl);
        nixply_tests::run(command.args(words.split_whitespace()).current_dir(directory)).ok();
    };
    fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let authority =
        "[req]\ndistinguished_name=dn\nx509_extensions=ca\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\n";
    fs::write(directory.join("openssl.cnf"), authority).unwrap();
    let new = "-config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run(&format!("req -x509 {new} -days 7 -subj /CN=authority -keyout ca.key -out ca.crt"));
    run(&format!("req {new} -subj /CN=registry -keyout registry.key -out registry.csr"));
    run(
        "x509 -req -in registry.csr -CA ca.crt -CAkey ca.key -set_serial 1 -days 7 -extfile names -out registry.crt",
    );
    let directory_name = directory.display();
    let tls =
        format!(", tls: {{certificate: {directory_name}/registry.crt, key: {directory_name}/registry.key}}");
    start_registry(directory, &tls, "")
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
    // Existing blobs are not sent again, whether nixply or skopeo sent them.
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

/// A project with the container `processes` of this name, which has this registry.
fn named<'n>(nix: &'n Nix, name: &str, registry: &str) -> Project<'n> {
    let project = Project::new(nix, HELLO);
    let settings =
        format!("{{ containers.processes = {{ name = \"{name}\"; registry = \"{registry}\"; }}; }}");
    project.write("devenv.local.nix", &settings);
    project
}

/// Runs `nixply container copy processes` without a skopeo. The user has no credentials but those in `auth_file`.
fn copy_without_skopeo(project: &Project<'_>, more: &[&str], auth_file: Option<&Path>) -> Output {
    run(command_without_skopeo(project, more).envs(auth_file.map(|file| ("REGISTRY_AUTH_FILE", file))))
}

fn command_without_skopeo(project: &Project<'_>, more: &[&str]) -> Command {
    let mut command = project.nixply(["container", "copy", "processes"].iter().chain(more));
    command.env("NIXPLY_SKOPEO", "/nowhere/skopeo").env("HOME", project.path());
    for variable in ["DOCKER_CONFIG", "XDG_CONFIG_HOME", "CONTAINERS_REGISTRIES_CONF"] {
        command.env_remove(variable);
    }
    command.env("XDG_RUNTIME_DIR", project.path()).env_remove("REGISTRY_AUTH_FILE");
    command
}

#[test]
fn without_copy_arguments_nixply_pushes_to_registries_itself() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let (name, other) = (unique("-pushed"), unique("-pushed-other"));
    let prefix = format!("docker://{}/", registry.address);
    let project = named(&nix, &name, &prefix);
    let first = copy_without_skopeo(&project, &[], None);
    let spec = project.build("processes");
    let heading = format!("\nCopying container {} to {prefix}{name}:latest\n\n", spec.display());
    assert!(first.stderr.contains(&heading), "{}", first.stderr);
    let end = first.stderr.trim_end().lines().last().unwrap_or_default().to_owned();
    assert!(end.starts_with("4 layers, ") && end.contains("; 4 sent ("), "{}", first.stderr);
    assert_eq!(first.ok(), "");
    // The copy script, which needs skopeo, is not even built.
    assert!(!project.path().join(".devenv/gc/container-processes-copy").exists());
    let inspected = json(&run(nix.nixply().args(["inspect", "--json"]).arg(&spec)).ok());
    let pushed = |name: &str| {
        let manifest = registry.get(name, "manifests", "latest");
        json(std::str::from_utf8(&manifest).unwrap())
    };
    assert_eq!(pushed(&name)["config"]["digest"], inspected["imageId"]);
    for layer in pushed(&name)["layers"].as_array().unwrap() {
        // As skopeo compresses them.
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        let blob = registry.get(&name, "blobs", text(&layer["digest"]));
        assert_eq!(sha256(&blob), text(&layer["digest"]));
    }

    let again = copy_without_skopeo(&project, &["--json"], None);
    assert!(again.stderr.trim_end().ends_with("; none sent, 4 already there"), "{}", again.stderr);
    let expected =
        serde_json::json!({"container": "processes", "reference": format!("{name}:latest"), "spec": spec});
    assert_eq!(json(&again.ok()), expected);
    // The registry of the command line, and the empty arguments of devenv.
    let to = format!("docker://{}/{other}/", registry.address);
    let quiet = copy_without_skopeo(&project, &["--quiet", "--registry", &to], None);
    assert_eq!((&*quiet.stderr, &*quiet.stdout, quiet.code), ("", "", Some(0)));
    assert_eq!(pushed(&format!("{other}/{name}")), pushed(&name));

    // Arguments are skopeo's, from the command line and from the container.
    let missing = "error: cannot start the real skopeo, /nowhere/skopeo: ";
    let said = copy_without_skopeo(&project, &["--copy-args=--dest-tls-verify=false"], None).fails();
    assert!(said.contains(missing), "{said}");
    let said = copy_without_skopeo(&project, &["-r", "oci:images/"], None).fails();
    assert!(said.contains(missing), "{said}");
    project
        .write("devenv.nix", r#"{ containers.processes.defaultCopyArgs = [ "--dest-tls-verify=false" ]; }"#);
    let said = copy_without_skopeo(&project, &[], None).fails();
    assert!(said.contains(missing), "{said}");
    // registries.conf demands what only skopeo does.
    project.write("devenv.nix", HELLO);
    let rules = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.address);
    project.write(".config/containers/registries.conf", &rules);
    let said = copy_without_skopeo(&project, &[], None).fails();
    assert!(said.contains(missing), "{said}");
}

/// Messages of the copies without skopeo keep devenv's words.
#[test]
fn failed_pushes_have_hints() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    let (_registry, guarded) = guarded_registry(directory.path());
    let name = unique("-refused");
    let project = named(&nix, &name, &format!("docker://{guarded}/"));
    let refused = copy_without_skopeo(&project, &[], None);
    assert_eq!(refused.code, Some(1));
    let end = format!(
        "error: Failed to copy container: {guarded} refuses access to the repository {name}: it requires credentials, and there are none \
         for it\nhint: log in with `skopeo login {guarded}`, `podman login {guarded}` or `docker login {guarded}`, or set \
         REGISTRY_AUTH_FILE to a file with credentials\n"
    );
    assert!(refused.stderr.ends_with(&end), "{}", refused.stderr);

    // The files of skopeo login.
    let own = project.path().join("auth.json");
    let of_user = project.path().join("containers/auth.json");
    for (file, auth_file) in [(&own, Some(&*own)), (&of_user, None)] {
        let login = ["login", "--tls-verify=false", "--username", "x", "--password-stdin", "--authfile"];
        run_with_input(Command::new("skopeo").args(login).args([file, Path::new(&guarded)]), "TOKEN").ok();
        copy_without_skopeo(&project, &[], auth_file).ok();
    }
    let wrong = fs::read_to_string(&own).unwrap().replace("eDpUT0tFTg==", "eDpXUk9ORw==");
    project.write("wrong.json", &wrong);
    let said = copy_without_skopeo(&project, &[], Some(&project.path().join("wrong.json"))).fails();
    let end = format!(
        "error: Failed to copy container: {guarded} refuses access to the repository {name}: it does not accept the credentials\n\
         hint: log in again with `skopeo login {guarded}`; the user may also lack the right to push\n"
    );
    assert!(said.ends_with(&end) && !said.contains("WRONG"), "{said}");

    let said = copy_without_skopeo(&project, &["-r", "docker://127.0.0.1:1/"], None).fails();
    assert!(
        said.contains(
            "error: Failed to copy container: cannot look up the tag latest: no answer from 127.0.0.1:1: "
        ),
        "{said}"
    );
    assert!(
        said.ends_with("hint: check the registry's address and port, and whether it is running\n"),
        "{said}"
    );
}

/// As with skopeo, a registry on loopback can use TLS.
#[test]
fn registries_on_loopback_can_use_tls() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    let (_registry, address) = encrypted_registry(&nix, directory.path());
    let project = named(&nix, "tls", &format!("docker://{address}/"));
    let ca = directory.path().join("ca.crt");
    let said = copy_without_skopeo(&project, &[], None).fails();
    let hint = format!(
        "hint: put the registry's ca.crt into /etc/containers/certs.d/{address}; for a registry without TLS, pass \
         --copy-args=--dest-tls-verify=false\n"
    );
    assert!(said.contains("error: Failed to copy container: ") && said.ends_with(&hint), "{said}");
    // The system trusts the authority.
    run(command_without_skopeo(&project, &[]).env("SSL_CERT_FILE", &ca)).ok();
    // The user trusts it for this registry.
    project.write(&format!(".config/containers/certs.d/{address}/ca.crt"), &fs::read_to_string(&ca).unwrap());
    copy_without_skopeo(&project, &[], None).ok();
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
