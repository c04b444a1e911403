//! `nixply validate` on specs and layouts: one fault at a time.

mod bases;

use std::fs;
use std::process::Output;

use nixply_oci::Digest;
use serde_json::{Value, json};

use self::bases::{APP, MORE, Sandbox, layer, said};

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

/// A sandbox with `image.json`, whose layers are a base image's file and two packed ones, and its layout `l`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.base(json!({}), &[layer(&["etc/", "etc/base"])]);
    sandbox.built(json!({
        "config": {"entrypoint": [format!("{APP}/bin/app"), MORE]}, "fromImage": sandbox.base_spec(), "compression": "gzip",
        "maxLayers": 3,
    }));
    let output = sandbox.layout(&["--tag", "t"]);
    assert!(output.status.success(), "{}", said(&output));
    sandbox
}

fn spec(sandbox: &Sandbox) -> Output {
    sandbox.run(&["validate", "--allow-outside-store", "--real-store-dir", "store", "image.json"])
}

#[test]
fn a_spec_is_valid_if_its_layers_are_packed_to_the_same_bytes() {
    let sandbox = sandbox();
    let output = spec(&sandbox);
    assert_eq!((output.status.code(), lines(&output)), (Some(0), Vec::new()), "{}", said(&output));
    assert!(said(&output).contains(": valid\n"), "{}", said(&output));

    let right = sandbox.read("image.json");
    let layers = right["layers"].as_array().unwrap();
    let zero = format!("sha256:{}", "0".repeat(64));
    let last = layers.len() - 1;
    for (key, value, property) in [
        ("digest", json!(zero), "digest"),
        ("diff_ids", json!(zero), "diff_id"),
        ("size", json!(7), "size"),
        ("mediatype", json!("application/vnd.oci.image.layer.v1.tar+zstd"), "media type"),
    ] {
        for at in [0, last] {
            let mut wrong = right.clone();
            wrong["layers"][at][key] = value.clone();
            sandbox.write("image.json", &wrong);
            let output = spec(&sandbox);
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let found = match property {
                "media type" => format!("a blob of {}", text(&right["layers"][at][key])),
                _ => text(&right["layers"][at][key]),
            };
            let expected =
                format!("image.json: layer {}: {property}: expected {}, found {found}", at + 1, text(&value));
            assert_eq!(
                (output.status.code(), lines(&output)),
                (Some(1), vec![expected]),
                "{}",
                said(&output)
            );
            assert!(said(&output).contains(": 1 problem\n"), "{}", said(&output));
        }
    }
}

#[test]
fn a_changed_file_of_a_base_layer_and_a_changed_store_path_are_found() {
    let sandbox = sandbox();
    let image = sandbox.read("image.json");
    let file = image["layers"][0]["layer-path"].as_str().unwrap().to_owned();
    let mut bytes = fs::read(&file).unwrap();
    bytes[5] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let found = lines(&spec(&sandbox));
    let digest = image["layers"][0]["digest"].as_str().unwrap();
    let expected = [
        format!("image.json: layer 1: digest: expected {digest}, found {}", Digest::of(&bytes)),
        format!("image.json: layer 1: diff_id: expected {digest}, found {}", Digest::of(&bytes)),
    ];
    assert_eq!(found, expected);

    fs::write(sandbox.path("store").join(&MORE["/nix/store/".len()..]).join("share/more"), "other").unwrap();
    let output = spec(&sandbox);
    let found = lines(&output);
    assert!(
        found.iter().any(|line| line.contains(": diff_id: expected") && !line.contains("layer 1:")),
        "{found:?}"
    );
}

#[test]
fn a_layout_without_images_is_an_error() {
    let sandbox = sandbox();
    for index in [json!({}), json!({"manifests": null}), json!({"schemaVersion": 2, "manifests": []})] {
        sandbox.write("l/index.json", &index);
        let output = sandbox.run(&["validate", "l"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(said(&output), "error: l/index.json names no image\n");
    }
}

#[test]
fn a_changed_byte_is_found_in_every_blob_of_a_layout() {
    let sandbox = sandbox();
    let output = sandbox.run(&["validate", "l"]);
    assert_eq!((output.status.code(), lines(&output)), (Some(0), Vec::new()), "{}", said(&output));
    assert!(said(&output).starts_with("1 image with "), "{}", said(&output));

    let index = sandbox.read("l/index.json");
    let (manifest, _) = sandbox.image();
    let mut parts = vec![
        ("manifest".to_owned(), index["manifests"][0]["digest"].clone()),
        ("config".into(), manifest["config"]["digest"].clone()),
    ];
    let layers = manifest["layers"].as_array().unwrap();
    parts.extend(
        layers.iter().enumerate().map(|(at, layer)| (format!("layer {}", at + 1), layer["digest"].clone())),
    );
    for (part, digest) in parts {
        let digest = digest.as_str().unwrap();
        let file = sandbox.path("l/blobs/sha256").join(&digest["sha256:".len()..]);
        let right = fs::read(&file).unwrap();
        let mut wrong = right.clone();
        // In JSON, a letter of a text.
        let at = if wrong[0] == b'{' {
            right.iter().position(|byte| *byte == b'/').unwrap() + 1
        } else {
            right.len() / 2
        };
        wrong[at] ^= 1;
        fs::write(&file, &wrong).unwrap();
        let output = sandbox.run(&["validate", "l"]);
        let line = format!("l:t: {part}: digest: expected {digest}, found {}", Digest::of(&wrong));
        assert_eq!(output.status.code(), Some(1));
        assert!(lines(&output).contains(&line), "{line}: {:#?}", lines(&output));

        let json: Value = serde_json::from_slice(&sandbox.run(&["validate", "--json", "l"]).stdout).unwrap();
        assert_eq!(json["valid"], false);
        let problem = &json["problems"][0];
        assert_eq!(
            (&problem["image"], &problem["part"], &problem["expected"]),
            (&json!("l:t"), &json!(part), &json!(digest))
        );

        fs::write(&file, &right[..right.len() - 1]).unwrap();
        let found = lines(&sandbox.run(&["validate", "l"]));
        let line = format!("l:t: {part}: size: expected {}, found {}", right.len(), right.len() - 1);
        assert!(found.contains(&line), "{line}: {found:#?}");

        fs::remove_file(&file).unwrap();
        let found = lines(&sandbox.run(&["validate", "l"]));
        assert_eq!(found, [format!("l:t: {part}: content: expected {digest}, found no such blob")]);
        fs::write(&file, right).unwrap();
    }
}
