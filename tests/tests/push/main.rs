//! `nixply push`, with a real registry: the image arrives byte for byte, other tools read it, and only what is missing is sent.

mod cache;
mod kills;
mod servers;

use std::path::Path;
use std::process::Command;

use nixply_packer::Codec;
use nixply_tests::engines::{Directory, Image, Registry, json, sha256, skopeo, text, unique, validate};
use nixply_tests::{Nix, Output, harness, needs, run};

const HELLO: &str = r#"{
    name = "hello"; config.entrypoint = [ "${pkgs.hello}/bin/hello" ]; maxLayers = 3; compression = "CODEC";
}"#;

/// Returns the command for a user with this home directory and no other configuration.
fn nixply(nix: &Nix, home: &Path) -> Command {
    let mut command = nix.nixply();
    command.env("HOME", home);
    for variable in
        ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"]
    {
        command.env_remove(variable);
    }
    command
}

/// Pushes a spec. The user has no credentials.
fn push(nix: &Nix, spec: &Path, to: &str, home: &Path) -> Output {
    run(nixply(nix, home).arg("push").arg(spec).arg(to))
}

/// Checks that a tag has a whole image: every digest and size is right. Returns the manifest's digest.
#[track_caller]
fn whole(registry: &Registry, repository: &str, tag: &str) -> String {
    let bytes = registry.get(repository, "manifests", tag);
    let manifest = json(std::str::from_utf8(&bytes).unwrap());
    for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
        let content = registry.get(repository, "blobs", text(&blob["digest"]));
        assert_eq!(sha256(&content), text(&blob["digest"]), "{repository}:{tag}");
        assert_eq!(content.len() as u64, blob["size"].as_u64().unwrap(), "{repository}:{tag}");
    }
    sha256(&bytes)
}

#[test]
fn images_arrive_byte_for_byte_and_an_unchanged_one_is_not_sent_again() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let (directory, repository) = (Directory::new(), unique("-nixply-push"));
    for codec in Codec::all().map(Codec::name) {
        let image = Image::build(&nix, "", &HELLO.replace("CODEC", codec));
        let to = format!("{}/{repository}:{codec}", registry.address);
        let first = push(&nix, &image.spec, &to, directory.path());
        let pushed = first.ok();
        let manifest = registry.get(&repository, "manifests", codec);
        assert_eq!(pushed, format!("{to}@{}", sha256(&manifest)));
        let manifest = json(std::str::from_utf8(&manifest).unwrap());
        assert_eq!(manifest["config"]["digest"], image.id().as_str());
        for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
            assert_eq!(
                sha256(&registry.get(&repository, "blobs", text(&blob["digest"]))),
                text(&blob["digest"])
            );
        }

        let again = push(&nix, &image.spec, &to, directory.path());
        assert!(again.stderr.contains("the registry has this image already; 1 request"), "{}", again.stderr);
        assert_eq!(again.ok(), pushed);

        // An independent client reads the image, and every size, digest and diff_id is right. skopeo compresses plain layers.
        let layout = directory.join(&format!("layout-{codec}"));
        let copy = ["copy", "--quiet", "--preserve-digests", "--src-tls-verify=false"];
        let (from, into) = (registry.reference(&repository, codec), format!("oci:{}:t", layout.display()));
        run(skopeo(&copy).args([from, into])).ok();
        let images = validate(&layout).unwrap();
        assert_eq!(images[0].id, image.id());
    }
}

#[test]
fn a_wrong_destination_is_an_error_with_the_way_out() {
    let nix = harness!();
    let directory = Directory::new();
    let image = Image::build(&nix, "", &HELLO.replace("CODEC", "zstd"));
    for (to, message) in [
        ("hello:1", "it names no registry; begin it with the registry's host, as in ghcr.io/team/app:1.0"),
        ("127.0.0.1:1/hello", "cannot look up the tag latest: no answer from 127.0.0.1:1"),
    ] {
        let output = push(&nix, &image.spec, to, directory.path());
        assert!(output.code != Some(0) && output.stderr.contains(message), "{to}: {}", output.stderr);
        assert!(output.stdout.is_empty(), "{}", output.stdout);
    }
}

#[test]
fn the_index_of_frames_replaces_no_image() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let (directory, repository) = (Directory::new(), unique("-nixply-frames"));
    let image = Image::build(&nix, "", &HELLO.replace("CODEC", "zstd"));
    let to = format!("{}/{repository}:t", registry.address);
    let digest = format!("{}/{repository}@{}", registry.address, image.id());
    for (frames, why) in [(&to, "the image gets this tag"), (&digest, "it names a digest")] {
        let mut command = nixply(&nix, directory.path());
        let output = run(command.arg("push").arg(&image.spec).args([&to, "--cache-to", frames]));
        assert_eq!(output.code, Some(2), "{}", output.stderr);
        let error = format!("error: --cache-to {frames}: {why}\n");
        let hint = format!("hint: name another tag, as in {}/{repository}:frames\n", registry.address);
        assert!(output.stderr.contains(&error) && output.stderr.contains(&hint), "{}", output.stderr);
    }
    push(&nix, &image.spec, &to, directory.path()).ok();
    let manifest = whole(&registry, &repository, "t");
    let other = to.replace(":t", ":other");
    let mut command = nixply(&nix, directory.path());
    let output = run(command.arg("push").arg(&image.spec).args([&other, "--cache-to", &to]));
    let warning = format!("the frames of the layers were not stored: {to} has an image");
    assert!(output.stderr.contains(&warning), "{}", output.stderr);
    output.ok();
    assert_eq!(whole(&registry, &repository, "t"), manifest);
}

#[test]
fn a_summary_that_cannot_be_written_does_not_hide_the_error_of_the_push() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let directory = Directory::new();
    let image = Image::build(&nix, "", &HELLO.replace("CODEC", "zstd"));
    let to = format!("{}/{}:t", registry.address, unique("-nixply-summary"));
    let summary = format!("--summary={}", directory.join("absent/summary.md").display());
    let with_summary = |more: &[&str]| {
        let mut command = nixply(&nix, directory.path());
        run(command.arg("push").arg(&image.spec).args([&to, &summary]).args(more))
    };
    let output = with_summary(&["--also", "127.0.0.1:1/app:t"]);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(
        output.stderr.contains("error: cannot look up the tag t: no answer from 127.0.0.1:1"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("warning: cannot write"), "{}", output.stderr);
    let output = with_summary(&[]);
    assert!(output.code == Some(2) && output.stderr.contains("error: cannot write"), "{}", output.stderr);
}

#[test]
fn an_index_of_indexes_keeps_their_annotations() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let (directory, repository) = (Directory::new(), unique("-nixply-annotations"));
    let index = |arch: &str, annotations: &str| {
        nix.build(&format!(
            "buildIndex false {{ name = \"a\"; annotations = {annotations}; images = [ (buildImage {{ \
               name = \"a\"; arch = \"{arch}\"; compression = \"zstd\"; config.Env = [ \"A={arch}\" ]; }}) ]; }}"
        ))
    };
    let (amd64, arm64) =
        (index("amd64", "{ one = \"1\"; both = \"b\"; }"), index("arm64", "{ two = \"2\"; both = \"b\"; }"));
    let to = format!("{}/{repository}:t", registry.address);
    let push = |specs: [&Path; 2]| {
        let mut command = nixply(&nix, directory.path());
        run(command.args(["push", "--index", &to]).args(specs))
    };
    push([&amd64, &arm64]).ok();
    let raw = ["inspect", "--raw", "--tls-verify=false"];
    let pushed = json(&run(skopeo(&raw).arg(registry.reference(&repository, "t"))).ok());
    assert_eq!(pushed["annotations"], json(r#"{"one": "1", "two": "2", "both": "b"}"#));
    assert_eq!(pushed["manifests"].as_array().unwrap().len(), 2);
    let other = index("arm64", "{ both = \"other\"; }");
    let output = push([&amd64, &other]);
    assert_eq!(output.code, Some(2));
    let why = format!("{} has another value of the annotation both than an earlier index", other.display());
    assert!(output.stderr.contains(&why), "{}", output.stderr);
}
