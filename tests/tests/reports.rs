//! Predictions of `nixply diff` and `nixply strategies`, compared with the actual traffic of a registry.

use std::collections::HashSet;
use std::fs;

use nixply_tests::engines::{Directory, Image, Registry, closure, json, sha256, skopeo, text, unique};
use nixply_tests::{harness, needs, run};
use serde_json::Value;

/// An image whose two files are unique per run, so that no registry has them.
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

/// Pushes an image with skopeo. Returns the sizes of the layers that skopeo sent according to its debug log, and
/// the manifest.
fn sent(
    image: &Image<'_>,
    directory: &Directory,
    registry: &Registry,
    repository: &str,
    tag: &str,
) -> (Vec<u64>, Value) {
    let layout = directory.join(tag);
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
fn push_sends_the_bytes_that_diff_predicts() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let (directory, repository) = (Directory::new(), unique("-report"));
    let (first, second) = (unique("first"), unique("second").repeat(300));
    let old = Image::build(&nix, "", &image(&first, &second));
    let new = Image::build(&nix, "", &image(&first, &unique("other").repeat(400)));
    let (all, _) = sent(&old, &directory, &registry, &repository, "old");
    let (pushed, manifest) = sent(&new, &directory, &registry, &repository, "new");
    assert!(pushed.len() < all.len() && !pushed.is_empty(), "{pushed:?} of {all:?}");

    let report = run(nix.nixply().args(["diff", "--format", "json"]).arg(&old.spec).arg(&new.spec)).ok();
    let report = json(&report);
    let pushed: u64 = pushed.iter().sum();
    assert_eq!(report["push"]["size"], pushed, "{report}");
    // A client with the old image fetches the same blobs.
    assert_eq!(report["pull"]["byBlob"]["size"], pushed, "{report}");
    let whole: u64 =
        manifest["layers"].as_array().unwrap().iter().map(|blob| blob["size"].as_u64().unwrap()).sum();
    assert!(pushed < whole);
}

/// Returns Nix code that binds `data`: a package of this version, with this number of rows of unique text.
fn data(version: usize, rows: usize) -> String {
    format!(
        r#"let data = pkgs.runCommand "data-{version}" {{ }} ''
             awk 'BEGIN {{ srand({seed}); for (n = 0; n < {rows}; n++)
               print "row", n, int(1000000 * rand()), int(100 * rand()), (rand() < 0.5 ? "left" : "right") }}' > $out
           ''; in"#,
        // The seed is a hash, because a time in nanoseconds is too large for awk's seeds.
        seed = u32::from_str_radix(&sha256(unique("seed").as_bytes())[7..13], 16).unwrap(),
    )
}

#[test]
fn push_sends_the_bytes_that_strategies_estimates_for_unpacked_packages() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let (directory, repository) = (Directory::new(), unique("-foretold"));
    let releases = [data(1, 70_000), data(2, 90_000)];
    let image = |before: &str| {
        let arguments = r#"{
            name = "foretold"; maxLayers = 4; compression = "zstd:3";
            config = { Cmd = [ "${pkgs.hello}/bin/hello" ]; Env = [ "DATA=${data}" ]; };
        }"#;
        Image::build(&nix, before, arguments)
    };
    for (number, before) in releases.iter().enumerate() {
        let paths = closure(&nix, before, "pkgs.hello data");
        let json = run(nix.command("nix").args(["path-info", "--json"]).args(paths)).ok();
        fs::create_dir_all(directory.join("releases")).unwrap();
        fs::write(directory.join("releases").join(format!("{}.json", number + 1)), json).unwrap();
    }
    let old = image(&releases[0]);
    let mut study = nix.nixply();
    study.args(["strategies", "--strategy", "nixply", "--max-layers", "4", "--compression", "zstd:3"]);
    let report = run(study.args(["--format", "json"]).arg(directory.join("releases"))).ok();
    let history = &json(&report)["histories"][0];
    let prediction = &history["prediction"];
    let paths = prediction["paths"].as_u64().unwrap();
    // The first release is packed. In the second release, only the size of one package's new version is unknown.
    assert_eq!((&prediction["knownPaths"], &prediction["packagePaths"]), (&(paths - 1).into(), &1.into()));

    let new = image(&releases[1]);
    let pushed = &history["limits"][0]["strategies"][0]["series"]["pushed"];
    let near = |bytes: u64, foretold: &Value| (bytes as f64 / foretold.as_f64().unwrap() - 1.0).abs() < 0.03;
    // The registry may have blobs of the first release from other images, so compare with a full push.
    let (_, manifest) = sent(&old, &directory, &registry, &repository, "old");
    let whole =
        manifest["layers"].as_array().unwrap().iter().map(|blob| blob["size"].as_u64().unwrap()).sum();
    assert!(near(whole, &pushed[0]), "{whole}, predicted {}", pushed[0]);
    let (sent, _) = sent(&new, &directory, &registry, &repository, "new");
    let sent = sent.iter().sum();
    assert!(sent > 500_000 && near(sent, &pushed[1]), "{sent}, predicted {}", pushed[1]);
}
