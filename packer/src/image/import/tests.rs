use std::fs;

use serde_json::json;

use super::*;

const LAYER: &str = "59bf1c3509f33515622619af21ed55bbe26d24913cedbca106468a5fb37a50c3";
const DIFF_ID: &str = "sha256:8d3ac3489996423f53d6087c81180006263b79f206d3fdec9e66f0e27ceb8759";

/// Returns a directory like the one in nix2container's test: a Docker manifest with one gzip layer.
fn directory(media_type: &str, diff_ids: Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"architecture": "amd64", "config": {"Env": ["A=1"], "Hostname": "h"}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1472, "digest": put(dir.path(), &config)},
        "layers": [{"mediaType": media_type, "size": 2818413, "digest": format!("sha256:{LAYER}")}],
    });
    fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    dir
}

/// Returns the digits of the digest of the directory's config.
fn config_of(dir: &Path) -> String {
    let manifest: Value = serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    config_of_manifest(&manifest)["sha256:".len()..].to_owned()
}

/// nix2container's TestNewImageFromDir.
#[test]
fn a_docker_layer_becomes_an_oci_layer() {
    let dir = directory("application/vnd.docker.image.rootfs.diff.tar.gzip", json!([DIFF_ID]));
    let spec = ImageSpec::from_dir(dir.path(), None).unwrap();
    let expected = json!({
        "version": 1, "image-config": {"Env": ["A=1"]}, "arch": "amd64", "created": null,
        "layers": [{
            "digest": format!("sha256:{LAYER}"), "size": 2818413, "diff_ids": DIFF_ID,
            "mediatype": "application/vnd.oci.image.layer.v1.tar+gzip",
            "layer-path": dir.path().join(LAYER), "History": {},
        }],
    });
    assert_eq!(serde_json::from_slice::<Value>(&spec.write()).unwrap(), expected);

    let config = config_of(dir.path());
    let elsewhere = HashMap::from([
        (config.clone(), dir.path().join(config)),
        (LAYER.to_owned(), PathBuf::from("/nix/store/blob")),
    ]);
    let spec = ImageSpec::from_manifest(&dir.path().join("manifest.json"), &elsewhere, None).unwrap();
    assert_eq!(spec.layers[0].layer_path.as_deref(), Some("/nix/store/blob"));
}

#[test]
fn unsupported_images_are_reported() {
    let error = |dir: &tempfile::TempDir| ImageSpec::from_dir(dir.path(), None).unwrap_err().chain();
    let xz = directory("application/vnd.oci.image.layer.v1.tar+xz", json!([DIFF_ID]));
    assert!(error(&xz).contains("unsupported media type: \"application/vnd.oci.image.layer.v1.tar+xz\""));
    let short = directory("application/vnd.oci.image.layer.v1.tar", json!([]));
    assert!(error(&short).contains("the config has diff_ids of 0 layers, the manifest has 1"));
    let gone = directory("application/vnd.oci.image.layer.v1.tar", json!([]));
    let config = config_of(gone.path());
    fs::remove_file(gone.path().join(&config)).unwrap();
    assert!(error(&gone).contains("cannot read the image's config: ") && error(&gone).contains(&config));
    let manifest = short.path().join("manifest.json");
    let config = config_of(short.path());
    let error = ImageSpec::from_manifest(&manifest, &HashMap::new(), None).unwrap_err().to_string();
    assert!(error.contains(&format!("no file for sha256:{config}")), "{error}");
}

#[test]
fn blobs_with_wrong_content_are_refused() {
    let layer = Digest::of(b"layer");
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"rootfs": {"diff_ids": [DIFF_ID]}});
    let layers = json!([{"mediaType": LAYER_TYPE, "size": 5, "digest": layer}]);
    let manifest = json!({"config": {"size": 1, "digest": put(dir.path(), &config)}, "layers": layers});
    let image = put(dir.path(), &manifest);
    let index = json!({"manifests": [{"digest": image}]});
    fs::write(dir.path().join("manifest.json"), index.to_string()).unwrap();
    let write = |digest: &str, bytes: &[u8]| {
        let file = dir.path().join(digest.trim_start_matches("sha256:"));
        let old = fs::read(&file).unwrap_or_default();
        fs::write(&file, bytes).unwrap();
        let error = ImageSpec::from_dir(dir.path(), None).map(drop).map_err(|error| error.chain());
        if !old.is_empty() {
            fs::write(&file, old).unwrap();
        }
        (error.err().unwrap_or_default(), file.display().to_string())
    };
    assert_eq!(write(&layer.to_string(), b"layer").0, "");
    let other = [manifest.to_string().as_bytes(), b" "].concat();
    for (digest, bytes) in [
        (layer.to_string(), &b"other"[..]),
        (config_of_manifest(&manifest), br#"{"rootfs": {"diff_ids": []}}"#),
        (image, &other),
    ] {
        let (error, file) = write(&digest, bytes);
        let found = Digest::of(bytes);
        assert_eq!(error, format!("blob has the digest {found}, expected {digest}: {file}"));
    }
    let (error, file) = write(&layer.to_string(), b"longer");
    assert_eq!(
        error,
        format!("{file} is not valid: layer 1, {layer}, has 6 bytes, but the manifest records 5")
    );
}

fn config_of_manifest(manifest: &Value) -> String {
    manifest["config"]["digest"].as_str().unwrap().to_owned()
}

/// Writes a document to a file named after its digest's digits. Returns the digest.
fn put(dir: &Path, document: &Value) -> String {
    let text = document.to_string();
    let digest = Digest::of(text.as_bytes());
    fs::write(dir.join(digest.hex()), text).unwrap();
    digest.to_string()
}

/// Returns an image's manifest whose config has the fields of `more`.
fn image(dir: &Path, layers: usize, more: Value) -> Value {
    let diff_ids: Vec<_> = (0..layers).map(|at| DiffId::of(&[at as u8])).collect();
    let mut config = json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let layer = |at| json!({"mediaType": LAYER_TYPE, "size": 1, "digest": Digest::of(&[at as u8])});
    let layers: Vec<_> = (0..layers).map(layer).collect();
    json!({"schemaVersion": 2, "config": {"mediaType": "c", "size": 1, "digest": put(dir, &config)}, "layers": layers})
}

const LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

#[test]
fn docker_layers_become_oci_layers_and_unsupported_types_are_reported() {
    let read = |media_type: &str| ImageSpec::from_dir(directory(media_type, json!([DIFF_ID])).path(), None);
    for codec in Codec::all() {
        let suffix = if codec == Codec::None { String::new() } else { format!(".{}", codec.name()) };
        let docker = format!("application/vnd.docker.image.rootfs.diff.tar{suffix}");
        for media_type in [&docker, codec.media_type()] {
            let layer = &read(media_type).unwrap().layers[0];
            assert_eq!((&*layer.media_type, layer.codec()), (codec.media_type(), codec), "{media_type}");
        }
    }
    for (media_type, why) in [
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "layer 1 is encrypted"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "layer 1 may not be distributed"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "layer 1 may not be distributed"),
        ("", "layer 1 has no mediaType"),
        (
            "text/plain",
            "layer 1 has an unsupported media type: \"text/plain\"; layers are tar with one of the codecs none,",
        ),
    ] {
        let error = read(media_type).unwrap_err().chain();
        assert!(error.contains(why) && !error.contains("index"), "{error}");
    }
}

#[test]
fn history_of_the_base_image_stays_with_its_layers() {
    let dir = tempfile::tempdir().unwrap();
    let imported = |layers, history: Value| {
        let manifest = image(dir.path(), layers, json!({"history": history}));
        fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
        let config = ImageSpec::from_dir(dir.path(), None).unwrap().config_blob();
        serde_json::from_slice::<Value>(&config).unwrap()["history"].clone()
    };
    let entry =
        |name: &str| json!({"created": "2020-01-01T00:00:00+01:00", "created_by": name, "comment": "c"});
    let empty = |name: &str| json!({"created_by": name, "empty_layer": true});
    let all = json!([empty("a"), entry("b"), empty("c"), empty("d"), entry("e"), empty("f")]);
    assert_eq!(imported(2, all.clone()), all);
    assert_eq!(
        imported(3, all.clone()),
        json!([empty("a"), entry("b"), empty("c"), empty("d"), entry("e"), empty("f"), {}])
    );
    assert_eq!(imported(1, json!([entry("b"), {"created_by": "x"}])), json!([entry("b"), empty("x")]));
    assert_eq!(imported(1, json!([empty("a")])), json!([empty("a"), {}]));
    for none in [json!([]), Value::Null] {
        assert_eq!(imported(2, none), json!([{}, {}]), "layers have empty entries, as in nix2container");
    }
}

#[test]
fn null_lists_are_read_as_empty_lists() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"rootfs": {"diff_ids": null}, "history": null, "config": {"Env": null}, "os": null, "variant": null});
    let manifest = json!({"config": {"size": 1, "digest": put(dir.path(), &config)}, "layers": null, "annotations": null});
    fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    let spec = ImageSpec::from_dir(dir.path(), None).unwrap();
    assert!(spec.layers.is_empty() && spec.arch.is_empty());
}

#[test]
fn spec_records_the_base_images_platform() {
    let dir = tempfile::tempdir().unwrap();
    let read = |more: Value| {
        let manifest = image(dir.path(), 1, more);
        fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
        serde_json::from_slice::<Value>(&ImageSpec::from_dir(dir.path(), None).unwrap().write()).unwrap()
    };
    let spec = read(json!({"os": "windows", "architecture": "amd64", "os.version": "10.0"}));
    assert_eq!((&spec["arch"], &spec["os"], spec.get("variant")), (&json!("amd64"), &json!("windows"), None));
    let spec = read(json!({"os": "linux", "architecture": "arm", "variant": "v7"}));
    assert_eq!((&spec["arch"], spec.get("os"), &spec["variant"]), (&json!("arm"), None, &json!("v7")));
}

#[test]
fn a_platform_is_chosen_from_an_index_or_all_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let entry = |os: &str, arch: &str, variant: Option<&str>| {
        let manifest = image(dir.path(), 1, json!({"os": os, "architecture": arch, "variant": variant}));
        let mut platform = json!({"os": os, "architecture": arch});
        if let Some(variant) = variant {
            platform["variant"] = variant.into();
        }
        json!({"mediaType": "m", "size": 1, "digest": put(dir.path(), &manifest), "platform": platform})
    };
    let unknown = json!({"size": 1, "digest": Digest::of(b""), "platform": {"os": "unknown", "architecture": "unknown"}});
    let mut entries = vec![
        entry("linux", "amd64", None),
        entry("linux", "arm", Some("v6")),
        entry("linux", "arm", Some("v7")),
        unknown,
    ];
    let index = |entries: &[Value]| {
        let index = json!({"schemaVersion": 2, "manifests": entries});
        fs::write(dir.path().join("manifest.json"), index.to_string()).unwrap();
    };
    let read = |platform: &str| ImageSpec::from_dir(dir.path(), Some(&platform.parse().unwrap()));
    index(&entries);
    let error = ImageSpec::from_dir(dir.path(), None).unwrap_err().chain();
    assert!(
        error.contains(
            "several platforms, not the manifest of one image; it has linux/amd64, linux/arm/v6, linux/arm/v7"
        ),
        "{error}"
    );
    assert_eq!(read("linux/amd64").unwrap().arch, "amd64");
    assert_eq!(read("linux/arm/v7").unwrap().arch, "arm/v7");
    assert!(read("linux/arm").unwrap_err().chain().contains("it has linux/amd64, linux/arm/v6"));
    let error = read("linux/s390x").unwrap_err().chain();
    assert!(
        error.contains(
            "it is an index without an image for linux/s390x; it has linux/amd64, linux/arm/v6, linux/arm/v7"
        ),
        "{error}"
    );
    // The index of an image and its attestation.
    entries.drain(1..3);
    index(&entries);
    assert_eq!(ImageSpec::from_dir(dir.path(), None).unwrap().arch, "amd64");

    // The same index in a layout.
    let blobs = dir.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for file in fs::read_dir(dir.path()).unwrap().flatten().filter(|file| file.file_name().len() == 64) {
        fs::rename(file.path(), blobs.join(file.file_name())).unwrap();
    }
    fs::rename(dir.path().join("manifest.json"), dir.path().join("index.json")).unwrap();
    fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    assert_eq!(read("linux/amd64").unwrap().arch, "amd64");
    fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(read("linux/amd64").unwrap_err().chain().contains("imageLayoutVersion"));
}

#[test]
fn documents_that_are_not_images_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = |document: Value| {
        fs::write(dir.path().join("manifest.json"), document.to_string()).unwrap();
        ImageSpec::from_dir(dir.path(), None).unwrap_err().chain()
    };
    assert!(error(json!({"schemaVersion": 1, "fsLayers": []})).contains("Docker's schema 1"));
    assert!(
        error(json!({"schemaVersion": 2}))
            .contains("neither an image's manifest, which has a config, nor an index")
    );
    let chart = put(dir.path(), &json!({"name": "chart"}));
    let chart = json!({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": chart, "size": 1}});
    assert!(error(chart).contains("media type \"application/vnd.cncf.helm.config.v1+json\""));
    assert!(error(json!({"config": {"digest": "sha256:1", "size": 1}})).contains("config.digest"));
}
