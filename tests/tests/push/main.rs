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
