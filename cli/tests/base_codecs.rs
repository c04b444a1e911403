//! Layouts with images of other tools, and base images with layers in zstd.

mod bases;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use bases::{APP, Sandbox, in_zstd, layer, said};
use nixply_oci::Digest;
use serde_json::{Value, json};

#[test]
fn existing_layouts_keep_unknown_fields() {
    let sandbox = Sandbox::new();
    sandbox.built(json!({"config": {"Cmd": [APP]}}));
    fs::create_dir_all(sandbox.path("l/blobs")).unwrap();
    sandbox.write("l/oci-layout", &json!({"imageLayoutVersion": "1.0.0", "of": "others"}));
    let index = json!({
        "schemaVersion": 2, "annotations": {"top": "1"}, "subject": {"size": 2}, "artifactType": "a",
        "manifests": [{
            "mediaType": "m", "digest": format!("sha256:{}", "0".repeat(64)), "size": 2, "urls": ["https://example.com"],
            "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}, "data": "e30=", "artifactType": "b",
            "annotations": null,
        }],
    });
    sandbox.write("l/index.json", &index);
    let output = sandbox.layout(&[]);
    assert!(output.status.success(), "{}", said(&output));
    let mut after = sandbox.read("l/index.json");
    let added = after["manifests"].as_array_mut().unwrap().remove(1);
    assert_eq!(added["annotations"], json!({"org.opencontainers.image.ref.name": "latest"}));
    assert_eq!(after.to_string(), index.to_string(), "existing fields keep their order");
    assert_eq!(sandbox.read("l/oci-layout")["of"], "others");

    for (file, content) in [
        ("l/oci-layout", json!({"imageLayoutVersion": "2.0.0"})),
        ("l/index.json", json!({"schemaVersion": 1, "manifests": []})),
        ("l/index.json", json!(["garbage"])),
    ] {
        let before = fs::read(sandbox.path(file)).unwrap();
        let blobs = || fs::read_dir(sandbox.path("l/blobs/sha256")).unwrap().count();
        let count = blobs();
        sandbox.write(file, &content);
        let output = sandbox.layout(&["--tag", "other", "--compression", "zstd"]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert!(said(&output).contains(file), "{}", said(&output));
        assert_eq!((sandbox.read(file), blobs()), (content, count), "nothing is written");
        fs::write(sandbox.path(file), before).unwrap();
    }
}

#[test]
fn zstd_layers_of_docker_base_images_are_kept_or_converted() {
    let sandbox = Sandbox::new();
    let base = || in_zstd(layer(&["etc/", "etc/file"]));
    sandbox.base(json!({}), &[base()]);
    let spec = sandbox.read("base.json");
    assert_eq!(spec["layers"][0]["mediatype"], "application/vnd.oci.image.layer.v1.tar+zstd");
    sandbox.built(json!({"fromImage": sandbox.base_spec(), "config": {"Cmd": [APP]}}));
    let layers = |more: &[&str]| {
        let output = sandbox.layout(more);
        assert!(output.status.success(), "{}", said(&output));
        sandbox.image().0["layers"].clone()
    };
    assert_eq!(layers(&[])[0]["digest"], json!(Digest::of(&base().bytes)), "the base layer is unchanged");
    for (codec, media_type) in [
        ("gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("none", "application/vnd.oci.image.layer.v1.tar"),
    ] {
        let layers = layers(&["--compression", codec]);
        assert_eq!(
            (&layers[0]["mediaType"], &layers[1]["mediaType"]),
            (&json!(media_type), &json!(media_type))
        );
        let digest = layers[0]["digest"].as_str().unwrap();
        let blob = fs::read(sandbox.path("l/blobs/sha256").join(&digest["sha256:".len()..])).unwrap();
        assert_eq!(
            (Digest::of(&blob).to_string(), blob.len() as u64),
            (digest.to_owned(), layers[0]["size"].as_u64().unwrap())
        );
        if codec == "none" {
            assert_eq!(blob, base().tar);
        }
    }
    assert_eq!(layers(&["--compression", "zstd"])[0]["digest"], json!(Digest::of(&base().bytes)));
    // Content that differs from the config's diff_id.
    let mut spec = sandbox.read("image.json");
    spec["layers"][0]["diff_ids"] = json!(Digest::of(b""));
    sandbox.write("image.json", &spec);
    let output = sandbox.layout(&["--compression", "gzip"]);
    assert!(said(&output).contains("but the image spec records sha256:e3b0"), "{}", said(&output));
}

/// Docker before version 23, for example, cannot read zstd.
#[test]
fn zstd_layers_of_docker_base_images_are_served_in_other_codecs() {
    let sandbox = Sandbox::new();
    sandbox.base(json!({}), &[in_zstd(layer(&["etc/", "etc/file"]))]);
    sandbox.built(json!({"fromImage": sandbox.base_spec()}));
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
    command.args([
        "serve",
        "--quiet",
        "--no-cache",
        "--allow-outside-store",
        "--compression",
        "gzip",
        "--scratch-dir",
        ".",
    ]);
    command.arg("image.json").current_dir(sandbox.0.path()).env_clear().env("HOME", sandbox.0.path());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut reference = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut reference).unwrap();
    let (address, _) = reference.split_once('/').unwrap();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let accept = "application/vnd.oci.image.manifest.v1+json";
        write!(stream, "GET /v2/image/{path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        answer.split_off(body)
    };
    let manifest: Value = serde_json::from_slice(&get("manifests/latest")).unwrap();
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let blob = get(&format!("blobs/{}", layer["digest"].as_str().unwrap()));
    assert_eq!((json!(Digest::of(&blob)), &blob[..2]), (layer["digest"].clone(), &[0x1f, 0x8b][..]));
    child.kill().unwrap();
    child.wait().unwrap();
}
