//! Every case of nix2container's tests, with nix2container's functions and copy scripts, and with real skopeo,
//! podman, Docker and a real registry. The images are those of tests/nix2container/images.nix.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixply_tests::engines::{Directory, Docker, Engine, Podman, Registry, skopeo, unique};
use nixply_tests::{Nix, Output, harness, needs, run};
use serde_json::{Value, json};

/// Returns `body` with nix2container's functions and the images of its tests, with the plugin if the Nix has
/// one.
fn with(nix: &Nix, body: &str) -> String {
    let file = Nix::repository().join("tests/nix2container/images.nix");
    format!(
        "let inherit (drop_in {}) nix2container; inherit (nix2container) buildImage buildLayer; \
         images = import {} {{ inherit pkgs nix2container; }}; in {body}",
        nix.plugin.is_some(),
        file.display()
    )
}

/// Returns the program of a copy script.
#[track_caller]
fn script(nix: &Nix, image: &str, attribute: &str) -> PathBuf {
    let directory = nix.build(&with(nix, &format!("({image}).{attribute}"))).join("bin");
    let entry = fs::read_dir(directory).unwrap().next().expect("a script's package has one program");
    entry.unwrap().path()
}

#[track_caller]
fn reference(nix: &Nix, image: &str) -> String {
    nix.eval(&with(nix, &format!("({image}).imageRefUnsafe"))).as_str().unwrap().to_owned()
}

/// Configures a script to use the test's store, without a cache.
fn configure(nix: &Nix, mut command: Command) -> Command {
    command
        .envs(nix.environment(""))
        .env("NIXPLY_NO_CACHE", "1")
        .env("NIXPLY_CACHE_DIR", nix.root.join("cache/nixply"));
    command
}

/// Copies an image to an engine with the image's script, and returns its name there.
trait LoadImage: Engine {
    fn load_image(&self, nix: &Nix, image: &str) -> String;
}

impl LoadImage for Podman {
    #[track_caller]
    fn load_image(&self, nix: &Nix, image: &str) -> String {
        let reference = reference(nix, image);
        let copy = script(nix, image, "copyToPodman");
        assert_eq!(copy.file_name().unwrap(), "copy-to-podman");
        let said = run(&mut configure(nix, self.program(&copy))).ok();
        assert!(said.starts_with(&format!("Copy to podman image {reference}")), "{said}");
        reference
    }
}

impl LoadImage for Docker {
    #[track_caller]
    fn load_image(&self, nix: &Nix, image: &str) -> String {
        let reference = reference(nix, image);
        self.owns(&reference);
        let copy = script(nix, image, "copyToDockerDaemon");
        assert_eq!(copy.file_name().unwrap(), "copy-to-docker-daemon");
        let mut command = configure(nix, Command::new(copy));
        let said = run(command.args(["--dest-daemon-host", self.host()])).ok();
        assert!(said.starts_with(&format!("Copy to Docker daemon image {reference}")), "{said}");
        reference
    }
}

fn docker() -> Option<Docker> {
    let address = std::env::var("NIXPLY_TEST_REGISTRY").ok()?;
    Some(Docker::new(std::env::var("NIXPLY_TEST_DOCKER").ok()?, Registry { address }))
}

/// nix2container's table: an image, the container's arguments, and a line that it prints.
const CASES: [(&str, &[&str], &str); 11] = [
    ("hello", &[], "I'm dying"),
    ("basic", &[], "Hello, world!"),
    ("layered", &[], "Hello, world!"),
    ("nested", &[], "Hello, world!"),
    ("copyToRoot", &[], "Hello, world!"),
    ("openbar", &[], "drwxrwxrwx ... tmp"),
    ("bash", &["bash", "--version"], "GNU bash, version ..."),
    ("bash", &["ls"], "bin"),
    ("nonReproducible", &[], "A non reproducible image built the ..."),
    ("ownership", &[], "-r--r--r-- 1 1001 1001 0 Jan  1  1970 test1.txt"),
    ("issue45", &[], "-r--r--r-- 1 0 0 0 Jan  1  1970 test2.txt"),
];

fn is_like(line: &str, pattern: &str) -> bool {
    match pattern.split_once("...") {
        None => line == pattern,
        Some((start, end)) => line.starts_with(start.trim_end()) && line.ends_with(end),
    }
}

fn cases_run(nix: &Nix, engine: &dyn LoadImage) {
    for (image, arguments, pattern) in CASES {
        let reference = engine.load_image(nix, &format!("images.{image}"));
        let mut command = vec![reference.as_str()];
        command.extend(arguments);
        let said = engine.run(&command).ok();
        // podman and Docker add directories for bind mounts, so a listing may have more lines.
        assert!(said.lines().any(|line| is_like(line, pattern)), "{image}: no {pattern:?} in:\n{said}");
    }
}

#[test]
fn cases_run_in_podman() {
    cases_run(&harness!(), &Podman::new());
}

#[test]
fn cases_run_in_docker() {
    let nix = harness!();
    needs!("NIXPLY_TEST_DOCKER");
    cases_run(&nix, &docker().expect("NIXPLY_TEST_REGISTRY is set"));
}

#[test]
fn podman_shows_the_images_metadata() {
    let (nix, podman) = (harness!(), Podman::new());
    let created = podman.load_image(&nix, "images.created");
    assert_eq!(podman.inspect(&created)["Created"], "2024-05-13T09:31:10Z");
    // nix2container#186.
    let duplicated = podman.load_image(&nix, "images.duplicated");
    assert_eq!(podman.inspect(&duplicated)["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    let metadata = podman.load_image(&nix, "images.metadata");
    let first = &podman.inspect(&metadata)["History"][0];
    assert_eq!(first["created_by"], "test created_by");
    assert_eq!((&first["author"], &first["comment"]), (&json!("test author"), &json!("test comment")));
}

/// The archive contains /nix with mode 0755 (nix2container#12).
#[test]
fn archive_contains_nix_with_its_mode() {
    let (nix, directory) = (harness!(), Directory::new());
    let dir = directory.join("image");
    let copy = script(&nix, "images.basic", "copyTo");
    let mut command = configure(&nix, Command::new(copy));
    let said = run(command.arg(format!("dir://{}", dir.display()))).ok();
    assert!(said.starts_with("Running skopeo --insecure-policy copy nix:"), "{said}");
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("manifest.json")).unwrap()).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    for layer in layers {
        // A copy to skopeo's `dir:` has uncompressed archives, as with nix2container.
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar");
        let blob = dir.join(&layer["digest"].as_str().unwrap()["sha256:".len()..]);
        let listing = run(Command::new("tar").args(["--absolute-names", "-tvf"]).arg(blob)).ok();
        let is_nix = |line: &str| line.starts_with("drwxr-xr-x root/root") && line.ends_with(" /nix");
        // If the store is not below /nix, its top directory has this mode.
        let ahead = nix.store_dir().components().nth(1).unwrap().as_os_str().to_str().unwrap().to_owned();
        let is_ahead =
            |line: &str| line.starts_with("drwxr-xr-x root/root") && line.ends_with(&format!(" /{ahead}"));
        assert!(listing.lines().any(|line| is_nix(line) || is_ahead(line)), "{listing}");
    }
}

/// The scripts push an image to the registry, and do not send existing blobs again.
#[test]
fn copy_to_registry_pushes_missing_blobs() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let name = unique("-drop-in");
    let image = format!(
        "buildImage {{ name = \"{}/{name}\"; tag = \"t\"; config.Cmd = [ \"${{pkgs.hello}}/bin/hello\" ]; maxLayers = 3; }}",
        registry.address
    );
    let copy = script(&nix, &image, "copyToRegistry");
    let push = || run(configure(&nix, Command::new(&copy)).arg("--dest-tls-verify=false"));
    let said = push().ok();
    assert!(
        said.starts_with(&format!("Copy to Docker registry image {}/{name}:t", registry.address)),
        "{said}"
    );
    let manifest: Value = serde_json::from_slice(&registry.get(&name, "manifests", "t")).unwrap();
    let spec = nix.build(&with(&nix, &format!("({image}).out")));
    let inspected: Value =
        serde_json::from_str(&run(nix.nixply().args(["inspect", "--json"]).arg(spec)).ok()).unwrap();
    assert_eq!(
        manifest["config"]["digest"], inspected["imageId"],
        "the registry must have the spec's image ID"
    );
    // A test in skopeo.rs counts the uploads.
    push().ok();
    assert_eq!(serde_json::from_slice::<Value>(&registry.get(&name, "manifests", "t")).unwrap(), manifest);
    let podman = Podman::new();
    podman.pull(&registry.reference(&name, "t"));
    assert_eq!(podman.run(&[&format!("{}/{name}:t", registry.address)]).ok(), "Hello, world!");
}

/// Checks the arguments that the scripts pass to skopeo: nix2container's and the user's. A stand-in for
/// skopeo prints them, because the real one would fail at these destinations.
#[test]
fn scripts_pass_all_arguments_to_skopeo() {
    let (nix, directory) = (harness!(), Directory::new());
    let (fake, passed) = (directory.join("skopeo"), directory.join("passed"));
    fs::write(
        &fake,
        format!("#!/bin/sh\nfor a in \"$@\"; do printf '<%s>' \"$a\"; done > {}\nexit 7\n", passed.display()),
    )
    .unwrap();
    run(Command::new("chmod").arg("+x").arg(&fake)).ok();
    let image =
        "buildImage { name = \"Some/Name\"; tag = \"v1\"; config.Cmd = [ \"x\" ]; copyToRoot = pkgs.hello; }";
    for (attribute, arguments, destination) in [
        ("copyToDockerDaemon", vec!["--a", "b c", "", "d\"'\n$x"], Some("docker-daemon:some/name:v1")),
        ("copyToRegistry", vec!["--dest-creds", "x:y z"], Some("docker://some/name:v1")),
        ("copyToPodman", vec![], Some("containers-storage:some/name:v1")),
        ("copyTo", vec!["dir:a b", "--quiet"], None),
    ] {
        let mut command = configure(&nix, Command::new(script(&nix, image, attribute)));
        let output = run(command.env("NIXPLY_SKOPEO", &fake).args(&arguments));
        assert_eq!(output.code, Some(7), "{attribute}: {}", output.stderr);
        let passed = fs::read_to_string(&passed).unwrap();
        let words: Vec<&str> = passed.trim_matches(['<', '>']).split("><").collect();
        let mut expected = vec!["--insecure-policy", "copy"];
        expected.extend(destination);
        expected.extend(arguments);
        // nixply replaces nix:IMAGE.json by the address of its own server, whose port differs in each run.
        let (ours, others): (Vec<&str>, Vec<&str>) = words
            .iter()
            .partition(|word| word.starts_with("docker://127.0.0.1:") || word.starts_with("--src-"));
        assert_eq!(others, expected, "{attribute}");
        assert_eq!(ours.iter().filter(|word| !word.starts_with("--")).count(), 1, "{passed}");
    }
}

/// A base image in the test's registry: its name there, and its manifest's digest. Its content is unique,
/// because skopeo reuses any form of a known layer in a registry.
struct Base {
    name: String,
    digest: String,
}

#[track_caller]
fn base(nix: &Nix, registry: &Registry, directory: &Path, compression: &str) -> Base {
    let name = unique("-base");
    let image = format!(
        "buildImage {{ name = \"{}/{name}\"; tag = \"t\"; copyToRoot = pkgs.writeTextDir \"etc/base-release\" \"{name}\\n\"; \
         config = {{ Env = [ \"BASE=yes\" ]; User = \"1234\"; }}; compression = \"{compression}\"; }}",
        registry.address
    );
    let digest_file = directory.join("digest");
    let mut push = configure(nix, Command::new(script(nix, &image, "copyToRegistry")));
    // skopeo pushes compressed layers unchanged.
    push.args(["--dest-tls-verify=false", "--digestfile"]).arg(&digest_file);
    run(&mut push).ok();
    Base { name, digest: fs::read_to_string(digest_file).unwrap().trim().to_owned() }
}

fn on_top(nix: &Nix, engine: &dyn LoadImage, base: &str, more: &str) -> Output {
    let image = format!(
        "buildImage {{ name = \"on-top\"; fromImage = {base}; {more} \
         config.entrypoint = [ \"${{pkgs.coreutils}}/bin/env\" \"${{pkgs.coreutils}}/bin/ls\" \"-l\" \"/etc/base-release\" ]; }}"
    );
    let reference = engine.load_image(nix, &image);
    engine.run(&[&reference])
}

#[test]
fn pulled_image_can_be_a_base_image() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let (directory, podman) = (Directory::new(), Podman::new());
    for compression in ["gzip", "zstd"] {
        let base = base(&nix, &registry, directory.path(), compression);
        let source = format!("docker://{}/{}@{}", registry.address, base.name, base.digest);
        let dir = directory.join(compression);
        run(skopeo(&["copy", "--src-tls-verify=false", &source]).arg(format!("dir:{}", dir.display()))).ok();
        let mut hash = nix.bare_command("nix", "");
        let hash = run(hash.args(["hash", "path", "--type", "sha256", "--base32"]).arg(&dir)).ok();
        let pull = |hash: &str| {
            format!(
                "(nix2container.pullImage {{ imageName = \"{}/{}\"; imageDigest = \"{}\"; tlsVerify = false; sha256 = \"{hash}\"; }})",
                registry.address, base.name, base.digest
            )
        };
        let spec: Value =
            serde_json::from_str(&fs::read_to_string(nix.build(&with(&nix, &pull(&hash)))).unwrap()).unwrap();
        let layer = &spec["layers"][0];
        assert_eq!(
            layer["mediatype"],
            format!("application/vnd.oci.image.layer.v1.tar+{compression}"),
            "the layer must keep its codec"
        );
        // nix2container#207.
        let file = layer["layer-path"].as_str().unwrap();
        assert_eq!(layer["size"].as_u64(), Some(fs::metadata(file).unwrap().len()));
        let said = on_top(&nix, &podman, &pull(&hash), "").ok();
        assert!(said.ends_with("/etc/base-release"), "{said}");
        // nix2container#79.
        let image = format!(
            "buildImage {{ name = \"inherits\"; fromImage = {}; inheritConfig = true; config.Env = [ \"A=b\" ]; }}",
            pull(&hash)
        );
        let config = podman.inspect(&podman.load_image(&nix, &image))["Config"].clone();
        assert_eq!((&config["User"], &config["Env"]), (&json!("1234"), &json!(["BASE=yes", "A=b"])));

        let wrong = nix.try_build(&with(&nix, &pull(&"0".repeat(52)))).fails();
        assert!(wrong.contains("hash mismatch"), "{wrong}");
    }
}

#[test]
fn image_pulled_by_its_manifest_can_be_a_base_image() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let (directory, podman) = (Directory::new(), Podman::new());
    let base = base(&nix, &registry, directory.path(), "zstd");
    let entry = |digest: &str, platform: Value| {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "platform": platform,
            "size": registry.get(&base.name, "manifests", &base.digest).len(),
        })
    };
    // An attestation has no real platform, and 32-bit ARM has several variants.
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            entry(&base.digest, json!({"os": "unknown", "architecture": "unknown"})),
            entry(&base.digest, json!({"os": "linux", "architecture": "arm", "variant": "v5"})),
            entry(&base.digest, json!({"os": "linux", "architecture": "arm", "variant": "v7"})),
            entry(&base.digest, json!({"os": "linux", "architecture": "riscv64"})),
        ],
    });
    registry.put_manifest(&base.name, "many", "application/vnd.oci.image.index.v1+json", &index.to_string());
    let pull = |more: &str| {
        format!(
            "(nix2container.pullImageFromManifest {{ imageName = \"{}\"; registryUrl = \"{}\"; tlsVerify = false; {more} }})",
            base.name, registry.address
        )
    };
    let get = |more: &str| {
        let script = nix.build(&with(&nix, &format!("{}.getManifest", pull(more)))).join("bin/get-manifest");
        run(configure(&nix, Command::new(script)).env("HOME", directory.path()))
    };
    // A single image, and an image of an index.
    let single = get("imageTag = \"t\";").ok();
    assert_eq!(single.as_bytes(), registry.get(&base.name, "manifests", &base.digest));
    assert_eq!(get("imageTag = \"many\"; arch = \"riscv64\";").ok(), single);
    assert_eq!(get("imageTag = \"many\"; arch = \"arm/v7\";").ok(), single);
    for arch in ["s390x", "arm/v6"] {
        let none = get(&format!("imageTag = \"many\"; arch = \"{arch}\";")).fails();
        let listed = "  linux/arm/v5\n  linux/arm/v7\n  linux/riscv64\n";
        let expected = format!("has no image for linux/{arch}; it has:\n{listed}");
        assert!(none.contains(&expected), "{none}");
    }

    let manifest = directory.join("manifest.json");
    fs::write(&manifest, &single).unwrap();
    let pulled = pull(&format!("imageManifest = {}; imageTag = \"t\";", manifest.display()));
    let said = on_top(&nix, &podman, &pulled, "").ok();
    assert!(said.ends_with("/etc/base-release"), "{said}");
    let absent = nix.try_eval(&with(&nix, &format!("{}.outPath", pull("")))).fails();
    assert!(absent.contains("is missing; write the file with the image's program getManifest"), "{absent}");
    fs::write(&manifest, index.to_string()).unwrap();
    let error = nix.try_eval(&with(&nix, &format!("{pulled}.outPath"))).fails();
    assert!(
        error.contains(
            "is an image index with the platforms linux/arm/v5, linux/arm/v7, linux/riscv64, not an image manifest; "
        ),
        "{error}"
    );
}
