//! skopeo pushes layouts to a registry.

use nixply_packer::Codec;
use nixply_tests::engines::{Directory, Image, Registry, json, sha256, skopeo, text, unique, validate};
use nixply_tests::{harness, needs, run};

const HELLO: &str = r#"{
    name = "hello"; config.entrypoint = [ "${pkgs.hello}/bin/hello" ]; maxLayers = 3;
}"#;

/// Returns the requests in skopeo's debug log that upload blobs.
fn uploads(log: &str) -> Vec<&str> {
    let sends =
        |line: &&str| ["POST", "PATCH", "PUT"].iter().any(|verb| line.contains(&format!("\"{verb} http")));
    log.lines().filter(sends).filter(|line| line.contains("/blobs/uploads/")).collect()
}

/// skopeo sends compressed blobs unchanged, and does not send existing ones again.
#[test]
fn skopeo_pushes_every_codec_unchanged() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let image = Image::build(&nix, "", HELLO);
    let (directory, repository) = (Directory::new(), unique("-push"));
    let layout = directory.join("layout");
    for codec in Codec::all().map(Codec::name) {
        let digest = image.layout(&layout, codec, Some(codec));
        let from = format!("oci:{}:{codec}", layout.display());
        let to = registry.reference(&repository, codec);
        // By default, skopeo compresses plain blobs, and substitutes blobs that it knows in another
        // compression.
        let keep = ["--preserve-digests"];
        let copy = || {
            let mut command = skopeo(&["--debug", "copy", "--dest-tls-verify=false"]);
            let output = run(command.args(keep).args([&from, &to]));
            let log = output.stderr.clone();
            output.ok();
            log
        };
        let log = copy();
        assert!(uploads(&log).len() >= 2, "{codec}: {log}");

        let manifest = registry.get(&repository, "manifests", codec);
        assert_eq!(sha256(&manifest), digest, "{codec}");
        let manifest = json(std::str::from_utf8(&manifest).unwrap());
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2);
        for descriptor in layers.iter().chain([&manifest["config"]]) {
            let blob = registry.get(&repository, "blobs", text(&descriptor["digest"]));
            assert_eq!(sha256(&blob), text(&descriptor["digest"]), "{codec}");
            assert_eq!(descriptor["size"], blob.len(), "{codec}");
        }
        assert_eq!(manifest["config"]["digest"], image.id().as_str());

        let log = copy();
        assert_eq!(uploads(&log), [""; 0], "{codec}");
        assert_eq!(log.matches("... already exists").count(), 3, "{codec}: {log}");
    }
    // Copies from the registry have the same blobs.
    for codec in Codec::all().map(Codec::name) {
        let back = directory.join(&format!("back-{codec}"));
        let to = format!("oci:{}:{codec}", back.display());
        let from = registry.reference(&repository, codec);
        let flags = ["copy", "--quiet", "--preserve-digests", "--src-tls-verify=false"];
        run(skopeo(&flags).args([from, to])).ok();
        let images = validate(&back).unwrap();
        assert_eq!(images[0].id, image.id());
        assert!(images[0].layers.iter().all(|layer| layer.codec == codec), "{codec}");
    }
}

/// By default, skopeo compresses a plain layer. The image ID stays the same.
#[test]
fn plain_image_compressed_by_skopeo_keeps_its_id() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    // skopeo remembers the blobs that it has seen in a registry and reuses them, so this layer must be new.
    let arguments = format!(
        r#"{{ name = "new"; config.Env = [ "FILE=${{builtins.toFile "new" "{}"}}" ]; }}"#,
        unique("content")
    );
    let image = Image::build(&nix, "", &arguments);
    let (directory, repository) = (Directory::new(), unique("-compress"));
    let layout = directory.join("layout");
    let digest = image.layout(&layout, "t", Some("none"));
    let to = registry.reference(&repository, "t");
    let from = format!("oci:{}:t", layout.display());
    run(skopeo(&["copy", "--quiet", "--dest-tls-verify=false"]).args([from, to])).ok();
    let manifest = registry.get(&repository, "manifests", "t");
    assert_ne!(sha256(&manifest), digest);
    let manifest = json(std::str::from_utf8(&manifest).unwrap());
    assert_eq!(manifest["config"]["digest"], image.id().as_str());
    for layer in manifest["layers"].as_array().unwrap() {
        assert!(text(&layer["mediaType"]).ends_with("gzip"), "{layer}");
    }
}
