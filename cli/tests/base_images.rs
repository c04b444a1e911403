//! Images with base images: platforms, paths, history and links.

mod bases;

use std::fs;

use bases::{APP, MORE, Sandbox, in_zstd, layer, said};
use nixply_oci::Digest;
use serde_json::{Value, json};

#[test]
fn base_image_of_another_platform_is_an_error() {
    let sandbox = Sandbox::new();
    let on_base = || json!({"fromImage": sandbox.base_spec(), "config": {"Cmd": [APP]}});
    let more = |more: Value| {
        let mut request = on_base();
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let refused = |request: Value, words: &[&str]| {
        let (code, said) = sandbox.build(request);
        assert_eq!(code, Some(1), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    sandbox.base(json!({"architecture": "arm64", "variant": "v8"}), &[layer(&["f"])]);
    refused(
        on_base(),
        &["base.json is not valid", "linux/arm64/v8", "linux/amd64", "set arch", "anyPlatform = true"],
    );
    assert!(!sandbox.path("image.json").exists());
    sandbox.built(more(json!({"arch": "arm64"})));
    sandbox.built(more(json!({"anyPlatform": true})));
    assert_eq!(sandbox.read("image.json")["arch"], "amd64");

    sandbox.base(json!({"os": "windows"}), &[layer(&["f"])]);
    refused(on_base(), &["windows/amd64", "linux/amd64"]);
    sandbox.base(json!({"architecture": "arm", "variant": "v7"}), &[layer(&["f"])]);
    refused(more(json!({"arch": null, "system": "armv6l-linux"})), &["linux/arm/v7", "linux/arm/v6"]);
    sandbox.built(more(json!({"arch": "arm"})));
    assert_eq!(sandbox.read("image.json")["variant"], "v7", "the base image's");
    // nix2container's specs do not record the platform.
    sandbox.base(json!({"architecture": "", "os": ""}), &[layer(&["f"])]);
    sandbox.built(on_base());
}

#[test]
fn arch_is_checked_and_sets_the_variant() {
    let sandbox = Sandbox::new();
    for (arch, words) in
        [("x86_64", "OCI's name for this processor is \"amd64\""), ("amd46", "did you mean \"amd64\"?")]
    {
        let (code, said) = sandbox.build(json!({"arch": arch}));
        assert_eq!(code, Some(1));
        assert!(said.contains(words), "{said}");
    }
    sandbox.built(json!({"arch": null, "system": "armv7l-linux", "config": {"Cmd": [APP]}}));
    sandbox.layout(&[]);
    let (_, config) = sandbox.image();
    assert_eq!(
        (&config["architecture"], &config["os"], &config["variant"]),
        (&json!("arm"), &json!("linux"), &json!("v7"))
    );
    for request in [json!({"arch": null, "system": "aarch64-linux"}), json!({"arch": "arm"})] {
        sandbox.built(request);
        assert!(sandbox.read("image.json").get("variant").is_none(), "as in nix2container's");
    }
}

#[test]
fn paths_of_the_base_image_are_not_packed_again() {
    let sandbox = Sandbox::new();
    sandbox.built(json!({"config": {"Cmd": [format!("{MORE}/share/more")]}}));
    let base = sandbox.read("image.json");
    sandbox.write("base.json", &base);
    let on_base = |more: Value| {
        let mut request = json!({"fromImage": sandbox.base_spec(), "config": {"Cmd": [format!("{MORE}/share/more")]}, "maxLayers": 5});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let said = sandbox.built(request);
        let image = fs::read_to_string(sandbox.path("image.json")).unwrap();
        (image.matches(&format!("\"path\": \"{APP}\"")).count(), said)
    };
    assert_eq!(on_base(json!({})), (1, String::new()));
    assert_eq!(sandbox.read("image.json")["layers"], base["layers"]);
    assert_eq!(on_base(json!({"layers": [{"deps": [APP]}]})), (1, String::new()), "layers, too");
    // With other rules, it is another file.
    let (count, said) = on_base(json!({"perms": [{"path": APP, "mode": "0700"}]}));
    assert!(count == 2 && said.contains("with other perms"), "{said}");
    // Layers from nix2container are fixed.
    let (count, said) = on_base(json!({"strategy": "popularity"}));
    assert_eq!(count, 2);
    assert!(
        said.contains(
            "warning: 2 store paths are in the image twice (235.0 kB), because the base image has them already"
        ),
        "{said}"
    );
    assert!(said.contains(APP) && said.contains("strategy = \"min-churn\""), "{said}");
    // A layer from nix2container's functions keeps its digest, unless the user chooses a strategy.
    let parents = |strategy: Value| json!({"layers": [{"deps": [APP], "parents": [], "strategy": strategy}]});
    assert_eq!(on_base(parents(Value::Null)).0, 2);
    assert_eq!(on_base(parents("nixply".into())), (1, String::new()));
    // Two independent layers (nlewo/nix2container#41).
    let (_, said) =
        on_base(json!({"fromImage": null, "layers": [{"deps": [APP]}, {"deps": [MORE], "parents": []}]}));
    assert!(
        said.contains("1 store path is in the image twice (1.0 kB), because layers that are not parents"),
        "{said}"
    );

    // Paths that a foreign layer could hide are packed.
    let mut covered = base;
    let file = sandbox.path("layer.tar");
    let above = layer(&["nix/store/.wh.0123456789abcdfghijklmnpqrsvwxyz-app"]);
    fs::write(&file, &above.bytes).unwrap();
    let digest = Digest::of(&above.bytes);
    let above = json!({"digest": digest, "size": above.bytes.len(), "diff_ids": digest, "mediatype": above.media_type, "layer-path": file, "History": {}});
    covered["layers"].as_array_mut().unwrap().push(above);
    sandbox.write("base.json", &covered);
    assert_eq!(on_base(json!({})).0, 2);
}

#[test]
fn history_of_the_base_image_is_kept() {
    let sandbox = Sandbox::new();
    let history = json!([
        {"created": "2020-01-01T00:00:00Z", "created_by": "first command", "author": "a", "comment": "c"},
        {"created_by": "an ENV", "empty_layer": true},
        {"created": "2020-01-02T00:00:00Z", "created_by": "second command"},
        {"created_by": "a CMD", "empty_layer": true},
    ]);
    sandbox.base(json!({"history": history}), &[layer(&["f"]), layer(&["g"])]);
    for more in [json!({}), json!({"inheritConfig": true}), json!({"strategy": "popularity"})] {
        let mut request = json!({"fromImage": sandbox.base_spec(), "config": {"Cmd": [APP]}});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        sandbox.built(request);
        sandbox.layout(&[]);
        let (manifest, config) = sandbox.image();
        let entries = config["history"].as_array().unwrap();
        assert_eq!(entries[..4], history.as_array().unwrap()[..]);
        assert_eq!(entries[4..], [json!({"created_by": "nix2container"})]);
        let with_layer = entries.iter().filter(|entry| entry.get("empty_layer").is_none()).count();
        assert_eq!(with_layer, manifest["layers"].as_array().unwrap().len());
    }
    // An image based on that image.
    fs::rename(sandbox.path("image.json"), sandbox.path("base.json")).unwrap();
    sandbox.built(json!({"fromImage": sandbox.base_spec(), "config": {"Cmd": [MORE]}}));
    sandbox.layout(&[]);
    assert_eq!(sandbox.image().1["history"].as_array().unwrap()[..4], history.as_array().unwrap()[..]);
}

#[test]
fn files_behind_links_of_the_base_image_are_warnings() {
    let sandbox = Sandbox::new();
    let debian = || layer(&["usr/", "usr/bin/", "usr/bin/sh", "bin -> usr/bin", "lib/", "lib/f", "etc/"]);
    let request = json!({"fromImage": sandbox.base_spec(), "copyToRoot": [APP]});
    for base in [debian(), in_zstd(debian())] {
        sandbox.base(json!({}), &[base]);
        let warnings = sandbox.built(request.clone());
        let expected = format!(
            "warning: {APP} puts a directory at /bin, where the base image has a link to usr/bin. Then the base image's files \
             are only in /usr/bin: put the store path's files there too, or remove /bin from copyToRoot\n"
        );
        assert_eq!(warnings, expected);
        assert_eq!(
            sandbox.built(json!({"fromImage": sandbox.base_spec(), "layers": [{"copyToRoot": [APP]}]})),
            expected
        );
    }
    // With a cache, the files of the base image are read once.
    let cached = || {
        let output = sandbox.run(&[
            "build",
            "--quiet",
            "--cache-dir",
            "cache",
            "--closure",
            "closure.json",
            "--real-store-dir",
            "store",
            "-o",
            "image.json",
            "request.json",
        ]);
        said(&output)
    };
    let first = cached();
    assert!(first.contains("puts a directory at /bin"), "{first}");
    let layers = sandbox.read("base.json")["layers"].clone();
    let file = layers[0]["layer-path"].as_str().unwrap().to_owned();
    let content = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(cached(), first);
    fs::write(&file, content).unwrap();
    // The image replaces a directory, and a link, by a link.
    let root = sandbox.path("store").join(&APP["/nix/store/".len()..]);
    std::os::unix::fs::symlink("bin", root.join("lib")).unwrap();
    let warnings = sandbox.built(request.clone());
    assert!(
        warnings
            .lines()
            .any(|line| line.contains("puts a link at /lib, where the base image has a directory")),
        "{warnings}"
    );
    fs::remove_dir_all(root.join("bin")).unwrap();
    fs::remove_file(root.join("lib")).unwrap();
    for target in ["usr/bin", "./usr/bin", "/usr/bin/"] {
        std::os::unix::fs::symlink(target, root.join("bin")).unwrap();
        assert_eq!(sandbox.built(request.clone()), "", "the same directory");
        fs::remove_file(root.join("bin")).unwrap();
    }
    // An upper layer of the base image replaces the link by a directory, or removes it.
    fs::create_dir(root.join("bin")).unwrap();
    fs::write(root.join("bin/app"), "").unwrap();
    for upper in [layer(&["bin/", "bin/f"]), layer(&[".wh.bin"])] {
        sandbox.base(json!({}), &[debian(), upper]);
        assert_eq!(sandbox.built(request.clone()), "");
    }
    // The layer cannot be read.
    let mut spec = sandbox.read("base.json");
    let file = sandbox.path("cut.tar");
    fs::write(&file, &in_zstd(debian()).bytes[..40]).unwrap();
    spec["layers"][1]["layer-path"] = json!(file);
    sandbox.write("base.json", &spec);
    let warnings = sandbox.built(request);
    assert!(warnings.contains("warning: cannot read layer 2 of the base image"), "{warnings}");
}

#[test]
fn index_errors_name_the_platforms() {
    let sandbox = Sandbox::new();
    let entry = |arch: &str, variant: Option<&str>, digit: char| {
        let platform = json!({"os": "linux", "architecture": arch, "variant": variant});
        json!({"size": 528, "digest": format!("sha256:{}", digit.to_string().repeat(64)), "platform": platform})
    };
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [entry("amd64", None, '1'), entry("arm64", Some("v8"), '2'), entry("unknown", None, '3')],
    });
    sandbox.write("index.json", &index);
    sandbox.write("blobs.json", &json!({}));
    let run = |more: &[&str]| {
        let output = sandbox
            .run(&[&["n2c", "image-from-manifest", "out.json", "index.json", "blobs.json"], more].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(!sandbox.path("out.json").exists());
        said(&output)
    };
    let all = run(&[]);
    assert!(
        all.contains("index of several platforms")
            && all.contains("it has linux/amd64, linux/arm64/v8\nhint: pass --platform"),
        "{all}"
    );
    assert!(run(&["--platform", "linux/arm64"]).contains(&format!("no file for sha256:{}", "2".repeat(64))));
    assert!(
        run(&["--platform", "linux/s390x"])
            .contains("has none for linux/s390x; it has linux/amd64, linux/arm64/v8")
    );
    // Some tools repeat the config's type as artifactType; any other type is not an image.
    for (kind, expected) in [
        ("application/vnd.oci.image.config.v1+json", format!("no file for sha256:{}", "1".repeat(64))),
        ("application/vnd.example.sbom", "it is an index without an image".into()),
    ] {
        let mut image = entry("amd64", None, '1');
        image["artifactType"] = json!(kind);
        sandbox.write("index.json", &json!({"schemaVersion": 2, "manifests": [image]}));
        let said = run(&[]);
        assert!(said.contains(&expected), "{said}");
    }
    for document in [json!({"manifests": []}), json!({"layers": [], "config": {}})] {
        let mut document = document;
        document["schemaVersion"] = json!(3);
        sandbox.write("index.json", &document);
        let said = run(&[]);
        assert!(said.contains("its schemaVersion is 3, this nixply knows 2"), "{said}");
    }
    sandbox.write("index.json", &index);
    // Like the base image's spec.
    let (code, said) = sandbox.build(json!({"fromImage": sandbox.path("index.json")}));
    assert_eq!(code, Some(1));
    assert!(said.contains("it is a manifest or index of OCI, not an image's spec"), "{said}");
}

#[test]
fn empty_values_clear_fields_of_the_base_image() {
    let sandbox = Sandbox::new();
    sandbox.base(
        json!({"config": {"Entrypoint": ["/e"], "Cmd": ["c"], "User": "u", "Env": ["A=1"]}}),
        &[layer(&["f"])],
    );
    let config = |own: Value| {
        sandbox.built(json!({"fromImage": sandbox.base_spec(), "inheritConfig": true, "config": own}));
        sandbox.read("image.json")["image-config"].clone()
    };
    assert_eq!(config(json!({"cmd": [], "User": ""})), json!({"Env": ["A=1"], "Entrypoint": ["/e"]}));
    assert_eq!(config(json!({"Entrypoint": [], "Cmd": null})), json!({"User": "u", "Env": ["A=1"]}));
}
