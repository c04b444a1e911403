//! What `nixply diff` predicts, against what a registry is sent and asked for.

use std::collections::HashSet;

use nixply_tests::engines::{Folder, Image, Registry, json, skopeo, text, unique};
use nixply_tests::{harness, needs, run};
use serde_json::Value;

/// An image whose two files differ from run to run, so that no registry has them.
fn image(first: &str, second: &str) -> String {
    format!(
        r#"{{
            name = "report"; maxLayers = 12; compression = "zstd:3";
            config.Cmd = [ "${{pkgs.hello}}/bin/hello" ];
            config.Env = [
              "A=${{builtins.toFile "first" "{first}"}}" "B=${{builtins.toFile "second" "{second}"}}"
              "C=${{pkgs.coreutils}}/bin/env" "D=${{pkgs.bash}}/bin/bash"
            ];
        }}"#
    )
}

/// The blobs that skopeo sent, by its debug log, and their bytes, by the registry.
fn sent(
    image: &Image<'_>,
    folder: &Folder,
    registry: &Registry,
    repository: &str,
    tag: &str,
) -> (Vec<u64>, Value) {
    let layout = folder.join(tag);
    image.layout(&layout, tag, None);
    let from = format!("oci:{}:{tag}", layout.display());
    let to = registry.reference(repository, tag);
    let mut command = skopeo(&["--debug", "copy", "--dest-tls-verify=false", "--preserve-digests"]);
    let output = run(command.args([from, to]));
    let log = output.stderr.clone();
    output.ok();
    // A blob's upload ends with a PUT that names its digest.
    let puts = log.lines().filter(|line| line.contains("\"PUT http") && line.contains("/blobs/uploads/"));
    let uploaded: HashSet<String> =
        puts.filter_map(|line| Some(line.split("digest=sha256%3A").nth(1)?[..64].to_owned())).collect();
    assert!(!uploaded.is_empty(), "{log}");
    let manifest = json(&String::from_utf8(registry.get(repository, "manifests", tag)).unwrap());
    let is_sent = |blob: &&Value| uploaded.contains(text(&blob["digest"]).trim_start_matches("sha256:"));
    let layers = manifest["layers"].as_array().unwrap();
    (layers.iter().filter(is_sent).map(|blob| blob["size"].as_u64().unwrap()).collect(), manifest.clone())
}

#[test]
fn a_push_sends_what_diff_predicts() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let (folder, repository) = (Folder::new(), unique("-report"));
    let (first, second) = (unique("first"), unique("second").repeat(300));
    let old = Image::build(&nix, "", &image(&first, &second));
    let new = Image::build(&nix, "", &image(&first, &unique("other").repeat(400)));
    let (all, _) = sent(&old, &folder, &registry, &repository, "old");
    let (pushed, manifest) = sent(&new, &folder, &registry, &repository, "new");
    assert!(pushed.len() < all.len() && !pushed.is_empty(), "{pushed:?} of {all:?}");

    let report = run(nix.nixply().args(["diff", "--format", "json"]).arg(&old.spec).arg(&new.spec)).ok();
    let report = json(&report);
    let pushed: u64 = pushed.iter().sum();
    assert_eq!(report["push"]["size"], pushed, "{report}");
    // A client that has the old image fetches the same blobs.
    assert_eq!(report["pull"]["byBlob"]["size"], pushed, "{report}");
    let whole: u64 =
        manifest["layers"].as_array().unwrap().iter().map(|blob| blob["size"].as_u64().unwrap()).sum();
    assert!(pushed < whole);
}
