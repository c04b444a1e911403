//! The program under the name `skopeo`: the real one, which takes `nix:IMAGE.json` for a source, too.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nixply_tests::engines::{
    Docker, Engine, Folder, Image, Podman, Registry, as_root, json, sha256, text, texts, unique, validate,
};
use nixply_tests::{Nix, Output, Running, harness, needs, run, run_with_input};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A link to the program under another name, ahead of all others on PATH.
struct Link<'n> {
    nix: &'n Nix,
    folder: Folder,
}

impl<'n> Link<'n> {
    fn new(nix: &'n Nix) -> Self {
        let folder = Folder::new();
        symlink(&nix.cli, folder.join("skopeo")).unwrap();
        Self { nix, folder }
    }

    fn program(&self) -> PathBuf {
        self.folder.join("skopeo")
    }

    /// In the environment of the Nix, and with nothing that the tests' user has set.
    fn set_up(&self, command: &mut Command) {
        command.envs(self.nix.environment("")).env_remove("NIXPLY_SKOPEO");
        command.env("PATH", self.path(std::env::var_os("PATH").unwrap_or_default()));
    }

    /// A PATH that begins with the link's folder.
    fn path(&self, rest: impl AsRef<OsStr>) -> OsString {
        let mut path = self.folder.path().as_os_str().to_owned();
        path.push(":");
        path.push(rest);
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        self.set_up(&mut command);
        command.args(arguments);
        command
    }

    /// skopeo copy from a spec, with these arguments after it.
    fn copy(&self, spec: &Path, rest: &[&str]) -> Command {
        let mut command = self.command(&["--insecure-policy", "copy"]);
        command.arg(source(spec)).args(rest);
        command
    }
}

fn source(spec: &Path) -> OsString {
    let mut source = OsString::from("nix:");
    source.push(spec);
    source
}

/// An image whose two layers are nobody else's: skopeo takes another form of a blob that it has seen in the registry before.
fn new_image<'n>(nix: &'n Nix, codec: &str) -> Image<'n> {
    let arguments = format!(
        r#"{{
            name = "skopeo/new";
            config.Env = [ "FILE=${{builtins.toFile "upper" "{}"}}" ];
            layers = [ {{ deps = [ (builtins.toFile "lower" "{}") ]; }} ];
            compression = "{codec}";
        }}"#,
        unique("upper"),
        unique("lower"),
    );
    Image::build(nix, "", &arguments)
}

fn hello<'n>(nix: &'n Nix, codec: &str) -> Image<'n> {
    let arguments = format!(
        r#"{{
            name = "skopeo/hello";
            config.Entrypoint = [ "${{pkgs.hello}}/bin/hello" "--greeting" "well met" ];
            maxLayers = 3; compression = "{codec}";
        }}"#
    );
    Image::build(nix, "", &arguments)
}

fn manifest(registry: &Registry, repository: &str, tag: &str) -> Value {
    json(std::str::from_utf8(&registry.get(repository, "manifests", tag)).unwrap())
}

fn digests(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| text(&layer["digest"]).to_owned()).collect()
}

/// A program that stands in for the real skopeo.
fn fake(script: &str) -> Folder {
    let folder = Folder::new();
    let file = folder.join("skopeo");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

/// An image's spec for a skopeo that does not read it.
fn any_spec(nix: &Nix) -> PathBuf {
    Image::build(nix, "", r#"{ name = "any"; config.Env = [ "FILE=${builtins.toFile "any" "any"}" ]; }"#).spec
}

/// What skopeo's debug log says it has asked for in these ways: of a registry, but for what is said without a body.
fn requests<'l>(log: &'l str, verbs: &[&str], of: &str) -> Vec<&'l str> {
    let asks =
        |line: &&str| verbs.iter().any(|verb| line.contains(&format!("{verb} http")) && line.contains(of));
    log.lines().filter(asks).collect()
}

/// Blobs are in the registry as they were served: nixply's own, whatever the codec.
#[test]
fn blobs_go_to_a_registry_as_they_are() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let link = Link::new(&nix);
    for (recorded, flags, codec) in [
        ("none", &[][..], "gzip:6"),
        ("none", &["--dest-compress-level", "9"], "gzip:9"),
        ("none", &["--dest-compress-format", "zstd"], "zstd:3"),
        ("none", &["--dest-compress-format=zstd", "--dest-compress-level=7"], "zstd:7"),
        ("zstd:5", &[], "zstd:5"),
        ("zstd:5", &["--dest-compress-format", "zstd"], "zstd:5"),
        ("zstd:5", &["--dest-compress-format", "gzip"], "gzip:6"),
        // There is nothing to verify and nobody to log in to, whatever is said of a source.
        ("gzip:2", &["--src-tls-verify=true", "--src-creds", "nix:a"], "gzip:2"),
    ] {
        let image = new_image(&nix, recorded);
        let repository = unique("-skopeo");
        let to = registry.reference(&repository, "t");
        let mut copy = link.copy(&image.spec, &["--dest-tls-verify=false"]);
        run(copy.args(flags).arg(to)).ok();
        let manifest = manifest(&registry, &repository, "t");
        assert_eq!(text(&manifest["config"]["digest"]), image.id(), "{recorded} {flags:?}");
        let folder = Folder::new();
        image.layout(&folder.join("own"), "t", Some(codec));
        let own = validate(&folder.join("own")).unwrap().remove(0);
        let own: Vec<String> = own.layers.into_iter().map(|layer| layer.digest).collect();
        assert_eq!(own.len(), 2);
        assert_eq!(digests(&manifest), own, "{recorded} {flags:?}");
        for digest in digests(&manifest) {
            assert_eq!(sha256(&registry.get(&repository, "blobs", &digest)), digest);
        }
    }
}

/// To the same registry again, under another tag.
#[test]
fn what_a_registry_has_is_not_sent_and_not_read() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let link = Link::new(&nix);
    for codec in ["none", "zstd"] {
        let image = new_image(&nix, codec);
        let repository = unique("-again");
        let copy = |tag: &str| {
            let to = registry.reference(&repository, tag);
            let output = run(link.copy(&image.spec, &["--debug", "--dest-tls-verify=false"]).arg(to));
            let log = output.stderr.clone();
            output.ok();
            let uploads = requests(&log, &["POST", "PATCH", "PUT"], "/blobs/uploads/").len();
            let here = format!("http://{}", registry.address);
            let gets = requests(&log, &["GET"], "/blobs/sha256:").into_iter();
            (uploads, gets.filter(|line| !line.contains(&here)).count())
        };
        let (uploads, reads) = copy("one");
        assert!(uploads >= 3, "{codec}: {uploads}");
        assert_eq!(reads, 3, "{codec}");
        // skopeo reads a config to know the image, whether or not it sends it.
        assert_eq!(copy("two"), (0, 1), "{codec}");
        let tags = ["one", "two"].map(|tag| registry.get(&repository, "manifests", tag));
        assert_eq!(tags[0], tags[1]);
    }
}

/// With the real skopeo, which says nothing then.
#[test]
fn what_was_sent_is_told_where_that_is_asked_for() {
    let nix = harness!();
    let link = Link::new(&nix);
    for codec in ["none", "zstd"] {
        let (image, folder) = (new_image(&nix, codec), Folder::new());
        let layers = image.inspect()["layers"].as_array().unwrap().len();
        let copy = || {
            let mut command = link.copy(&image.spec, &[]);
            command.env("NIXPLY_PROGRESS", "bars").arg(format!("oci:{}:t", folder.path().display()));
            let output = run(&mut command);
            assert_eq!((output.code, &*output.stdout), (Some(0), ""), "{}", output.stderr);
            output.stderr
        };
        let first = copy();
        let last = first.lines().last().unwrap();
        assert!(last.contains(&format!("; {layers} sent (")) && !last.contains("there"), "{codec}: {first}");
        let again = copy();
        assert!(again.ends_with(&format!("; none sent, {layers} already there\n")), "{codec}: {again}");
    }
}

/// What is plain stays plain where skopeo keeps layers as they are, and is compressed where it compresses.
#[test]
fn folders_have_what_skopeo_would_make_of_plain_tar() {
    let nix = harness!();
    let link = Link::new(&nix);
    let image = hello(&nix, "none");
    let folder = Folder::new();
    let to = |kind: &str, name: &str| format!("{kind}:{}", folder.join(name).display());
    run(&mut link.copy(&image.spec, &[&to("dir", "dir")])).ok();
    let manifest = json(&fs::read_to_string(folder.join("dir/manifest.json")).unwrap());
    assert_eq!(digests(&manifest), image.diff_ids());
    for diff_id in image.diff_ids() {
        let tar = fs::read(folder.join("dir").join(&diff_id[7..])).unwrap();
        assert_eq!(sha256(&tar), diff_id);
    }
    for (name, flags, codec) in [
        ("oci", &[][..], "gzip"),
        ("zstd", &["--dest-compress-format", "zstd"], "zstd"),
        ("plain", &["--dest-oci-accept-uncompressed-layers"], "none"),
    ] {
        let tagged = format!("{}:t", to("oci", name));
        run(link.copy(&image.spec, &[&tagged]).args(flags)).ok();
        let found = validate(&folder.join(name)).unwrap().remove(0);
        assert_eq!((found.id, found.tag.as_str()), (image.id(), "t"), "{name}");
        assert!(found.layers.iter().all(|layer| layer.codec == codec), "{name}: {:?}", found.layers);
    }
    // Docker's manifests, which know no zstd.
    let image = hello(&nix, "zstd");
    run(&mut link.copy(&image.spec, &[&to("dir", "v2"), "--format", "v2s2"])).ok();
    let manifest = json(&fs::read_to_string(folder.join("v2/manifest.json")).unwrap());
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(digests(&manifest), image.diff_ids());
}

#[test]
fn nix2container_100_what_an_unpatched_skopeo_pushed_runs_in_podman() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let (link, image, podman) = (Link::new(&nix), hello(&nix, "none"), Podman::new());
    let reference = registry.reference(&unique("-podman"), "t");
    run(&mut link.copy(&image.spec, &[&reference, "--dest-tls-verify=false"])).ok();
    let id = podman.pull(&reference);
    assert_eq!(id, image.id()[7..]);
    assert_eq!(podman.run(&[&id]).ok(), "well met");
}

/// Straight to podman's storage and to Docker's.
#[test]
fn engines_run_what_is_copied_to_them() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let docker = Docker::new(needs!("NIXPLY_TEST_DOCKER"), registry);
    let link = Link::new(&nix);
    for codec in ["none", "zstd"] {
        let image = hello(&nix, codec);
        let podman = Podman::new();
        let mut copy = as_root(link.program());
        link.set_up(&mut copy);
        copy.env("CONTAINERS_STORAGE_CONF", podman.storage_conf());
        copy.args(["--insecure-policy", "copy"]).arg(source(&image.spec));
        run(copy.arg("containers-storage:localhost/stored:t")).ok();
        assert_eq!(podman.inspect("localhost/stored:t")["Id"], &image.id()[7..], "{codec}");
        assert_eq!(podman.run(&["localhost/stored:t"]).ok(), "well met", "{codec}");

        let name = format!("{}:t", unique("-daemon"));
        docker.owns(&name);
        let to = format!("docker-daemon:{name}");
        run(&mut link.copy(&image.spec, &["--dest-daemon-host", docker.host(), &to])).ok();
        assert_eq!(docker.inspect(&name)["Id"], image.id().as_str(), "{codec}");
        assert_eq!(docker.run(&[&name]).ok(), "well met", "{codec}");
    }
}

/// An image has no name yet, no registry and no tags.
#[test]
fn inspect_shows_the_image_alone() {
    let nix = harness!();
    let link = Link::new(&nix);
    for codec in ["none", "zstd"] {
        let image = hello(&nix, codec);
        let temporary = Folder::new();
        let inspect = |flags: &[&str]| {
            let mut command = link.command(&["inspect"]);
            command.env("TMPDIR", temporary.path()).args(flags).arg(source(&image.spec));
            run(&mut command)
        };
        let known = image.inspect();
        let seen = inspect(&[]);
        assert_eq!(seen.stderr, "");
        assert!(!seen.stdout.contains("127.0.0.1") && !seen.stdout.contains("latest"), "{}", seen.stdout);
        let seen = json(&seen.ok());
        assert!(seen.get("Name").is_none_or(|name| name == ""), "{seen}");
        assert_eq!(seen["RepoTags"], serde_json::json!([]));
        assert_eq!(seen["Digest"], known["manifestDigest"]);
        assert_eq!((&seen["Os"], &seen["Architecture"]), (&"linux".into(), &"amd64".into()));
        let layers = known["layers"].as_array().unwrap();
        assert_eq!(
            texts(&seen["Layers"]),
            layers.iter().map(|layer| text(&layer["digest"])).collect::<Vec<_>>()
        );
        assert_eq!(sha256(inspect(&["--raw"]).stdout.as_bytes()), text(&known["manifestDigest"]));
        assert_eq!(sha256(inspect(&["--raw", "--config"]).stdout.as_bytes()), image.id());
        let config = json(&inspect(&["--config"]).ok());
        assert_eq!(texts(&config["rootfs"]["diff_ids"]), image.diff_ids());
        assert_eq!(inspect(&["--format", "{{.Digest}}"]).ok(), text(&known["manifestDigest"]));
        // Its blobs are where it has them.
        let elsewhere = Folder::new();
        inspect(&["--shared-blob-dir", &elsewhere.path().display().to_string()]).ok();
        assert_eq!(inspect(&["--nonsense"]).code, Some(1));
        assert_eq!(temporary.path().read_dir().unwrap().count(), 0);
    }
}

#[test]
fn layers_are_plain_tar() {
    let nix = harness!();
    let (link, image, folder) = (Link::new(&nix), hello(&nix, "none"), Folder::new());
    let [first, ..] = &image.diff_ids()[..] else { panic!("it has layers") };
    let mut command = link.command(&["layers"]);
    run(command.current_dir(folder.path()).arg(source(&image.spec)).arg(first)).ok();
    let made = folder.path().read_dir().unwrap().next().unwrap().unwrap().path();
    assert_eq!(sha256(&fs::read(made.join(&first[7..])).unwrap()), *first);
}

/// What a fake skopeo was given, an argument a line of hexadecimal digits.
const RECORD: &str =
    r#"for argument; do printf %s "$argument" | od -An -v -tx1 | tr -d ' \n'; echo; done; cat; exit 42"#;

fn hex(argument: &[u8]) -> String {
    argument.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Arguments with whatever bytes, standard input, the exit code.
#[test]
fn everything_else_is_passed_through() {
    let nix = harness!();
    let (link, real, spec) = (Link::new(&nix), fake(RECORD), any_spec(&nix));
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
    // With a source of ours, beside what leads to the image; the rest as it was.
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

/// skopeo's own errors have its own words and codes.
#[test]
fn errors_are_skopeos_own() {
    let nix = harness!();
    let (link, spec) = (Link::new(&nix), any_spec(&nix));
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
    // These are ours.
    let error = run(&mut link.command(&["copy", "nix:/nonexistent.json", "dir:x"])).fails();
    assert_eq!(error, "error: cannot read /nonexistent.json: No such file or directory (os error 2)\n");
    let folder = Folder::new();
    fs::write(folder.join("image.json"), "[]").unwrap();
    let error = run(&mut link.copy(&folder.join("image.json"), &["dir:x"])).fails();
    assert!(error.starts_with(&format!("error: {} ", folder.join("image.json").display())), "{error}");
}

#[test]
fn a_missing_skopeo_is_an_error_with_a_way_out() {
    let nix = harness!();
    let link = Link::new(&nix);
    let fails = |command: &mut Command| {
        let output = run(command);
        assert_eq!(output.code, Some(1));
        output.fails()
    };
    let error = fails(link.command(&["--version"]).env("PATH", link.folder.path()));
    assert_eq!(
        error,
        "error: cannot find the real skopeo: PATH has none, or only nixply under that name\nhint: install skopeo, or set NIXPLY_SKOPEO to its path\n"
    );
    let error = fails(link.command(&["--version"]).env("NIXPLY_SKOPEO", &nix.cli));
    assert!(error.starts_with("error: NIXPLY_SKOPEO must name the real skopeo"), "{error}");
    let error = fails(link.command(&["--version"]).env("NIXPLY_SKOPEO", "/nonexistent/skopeo"));
    assert!(error.starts_with("error: cannot start the real skopeo, /nonexistent/skopeo: "), "{error}");
    // A script that leads back.
    let real = fake(&format!("exec {} \"$@\"", link.program().display()));
    let error = fails(link.command(&["--version"]).env("PATH", link.path(real.path())));
    assert!(error.starts_with("error: the skopeo on PATH calls nixply again"), "{error}");
    // Named, it need not be on PATH nor be called skopeo.
    let real = fake("echo named \"$@\"");
    fs::rename(real.join("skopeo"), real.join("other name")).unwrap();
    let mut command = link.command(&["--version"]);
    assert_eq!(run(command.env("NIXPLY_SKOPEO", real.join("other name"))).ok(), "named --version");
}

/// Sent to the wrapper alone, as a supervisor does.
#[test]
fn signals_are_passed_on() {
    let nix = harness!();
    let (link, spec) = (Link::new(&nix), any_spec(&nix));
    let script = r#"
        for signal in HUP INT TERM USR1; do trap "echo got $signal; exit 7" $signal; done
        echo ready "$@"
        for second in 1 2 3 4 5 6 7 8 9 10; do for part in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done; done"#;
    let real = fake(script);
    for verb in ["copy", "inspect"] {
        for signal in ["HUP", "INT", "TERM", "USR1"] {
            let temporary = Folder::new();
            let mut command = link.command(&[verb]);
            command
                .arg(source(&spec))
                .env("NIXPLY_SKOPEO", real.join("skopeo"))
                .env("TMPDIR", temporary.path());
            let mut running = Running::start(&mut command);
            running.wait_until(PATIENCE, |running| running.stdout().starts_with("ready"));
            running.signal_alone(signal);
            let output = running.finish(PATIENCE);
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

/// What a signal has ended looks so from outside.
#[test]
fn skopeos_death_is_ours() {
    let nix = harness!();
    let (link, spec) = (Link::new(&nix), any_spec(&nix));
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("USR2", 12)] {
        let real = fake(&format!("kill -{signal} $$"));
        let mut command = link.copy(&spec, &["dir:x"]);
        let status = command.env("NIXPLY_SKOPEO", real.join("skopeo")).status().unwrap();
        assert_eq!(status.signal(), Some(number), "{signal}: {status:?}");
    }
}

/// nohup: what is ignored by whoever starts this is ignored by skopeo.
#[test]
fn ignored_signals_stay_ignored() {
    let nix = harness!();
    let (link, spec) = (Link::new(&nix), any_spec(&nix));
    let real = fake("echo ready; sleep 1; echo done");
    let mut command = Command::new("sh");
    link.set_up(&mut command);
    command.env("NIXPLY_SKOPEO", real.join("skopeo"));
    command.args(["-c", "trap '' HUP; exec \"$0\" copy \"$1\" dir:x"]).arg(link.program()).arg(source(&spec));
    let mut running = Running::start(&mut command);
    running.wait_until(PATIENCE, |running| running.stdout() == "ready\n");
    running.signal("HUP");
    assert_eq!(running.finish(PATIENCE).ok(), "ready\ndone");
}

/// In the midst of packing, with the real skopeo.
#[test]
fn an_interrupted_copy_leaves_nothing() {
    let nix = harness!();
    let link = Link::new(&nix);
    let image =
        Image::build(&nix, "", r#"{ name = "python"; config.Cmd = [ "${pkgs.python3}/bin/python3" ]; }"#);
    let (temporary, cache, target) = (Folder::new(), Folder::new(), Folder::new());
    let to = format!("oci:{}:t", target.join("layout").display());
    // Slow, so that it is in the midst of it.
    let flags = ["--dest-compress-format=zstd", "--dest-compress-level=15", &to];
    let mut command = link.copy(&image.spec, &flags);
    command.env("TMPDIR", temporary.path()).env("NIXPLY_CACHE_DIR", cache.path());
    let mut running = Running::start(&mut command);
    let packing = || {
        // Files without names are to be seen among the process' open files alone.
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let open =
            processes.flat_map(|process| fs::read_dir(process.path().join("fd")).into_iter().flatten());
        let mut links = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        links.any(|link| link.starts_with(temporary.path()))
    };
    running.wait_until(PATIENCE, |_| packing());
    let begin = Instant::now();
    running.signal_alone("TERM");
    let output = running.finish(PATIENCE);
    assert_eq!(output.code, None, "{output:?}");
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    assert!(!output.stderr.contains("error: "), "{}", output.stderr);
    assert_eq!(temporary.path().read_dir().unwrap().count(), 0);
}

/// The message names the store path, and skopeo fails.
#[test]
fn a_damaged_store_path_is_not_copied() {
    let nix = harness!();
    let private = nix.private();
    let door = Image::door(&private);
    for codec in ["none", "zstd"] {
        let body = format!(
            r#"{{ image = {door} {{
                name = "damaged"; compression = "{codec}";
                config.Env = [ "FILE=${{sh "content-{codec}" "echo right > $out"}}" ];
            }}; }}"#
        );
        let file = private.file("image.nix", &body);
        private.build_file(&file, "image", codec).ok();
        let ends = format!("-content-{codec}");
        let content = private.listing().into_iter().find(|name| name.ends_with(&ends)).unwrap();
        let content = private.store_dir().join(content);
        run(Command::new("chmod").arg("u+w").arg(&content)).ok();
        fs::write(&content, "wrong\n").unwrap();
        let (link, folder) = (Link::new(&private), Folder::new());
        let to = format!("oci:{}:t", folder.join("layout").display());
        let mut command = link.copy(&private.folder().join(codec), &[&to]);
        // The cache would give what the store no longer has.
        let output = run(command.env("NIXPLY_CACHE_DIR", folder.join("cache")));
        assert_eq!(output.code, Some(1), "{codec}: {output:?}");
        let error = output.fails();
        let words = "error: layer 1 no longer has the content that its image spec records";
        assert!(error.contains(words) && error.contains(&*content.to_string_lossy()), "{codec}: {error}");
        assert!(validate(&folder.join("layout")).is_err(), "{codec}");
    }
}

/// nix2container's name is that of its command line.
#[test]
fn the_program_answers_to_nix2containers_name() {
    let nix = harness!();
    let (link, image, folder) = (Link::new(&nix), hello(&nix, "none"), Folder::new());
    let program = folder.join("nix2container");
    symlink(&nix.cli, &program).unwrap();
    let dir = folder.join("dir").display().to_string();
    run(&mut link.copy(&image.spec, &[&format!("dir:{dir}")])).ok();
    let import = |command: &mut Command, name: &str| {
        let output: Output =
            run(command.args(["image-from-dir", &*folder.join(name).to_string_lossy(), &dir]));
        output.ok();
        fs::read(folder.join(name)).unwrap()
    };
    let named = import(&mut Command::new(&program), "named.json");
    assert_eq!(named, import(Command::new(&nix.cli).arg("n2c"), "n2c.json"));
    assert!(run(Command::new(&program).arg("build")).fails().contains("unrecognized subcommand"));
}
