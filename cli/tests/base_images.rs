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
    assert_eq!(sandbox.read("image.json")["variant"], "v7", "the variant is the base image's");
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
        assert!(
            sandbox.read("image.json").get("variant").is_none(),
            "nix2container writes no variant either"
        );
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
    assert_eq!(
        on_base(json!({"layers": [{"deps": [APP]}]})),
        (1, String::new()),
        "`layers` does not pack them again either"
    );
    // With other rules, the path becomes another file, so the image packs it as well.
    let (count, said) = on_base(json!({"perms": [{"path": APP, "mode": "0700"}]}));
    assert!(count == 2 && said.contains("with other perms"), "{said}");
    // Layers with nix2container's strategy have fixed digests, so they omit no path.
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

    // Paths that a layer of another tool could hide are packed.
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
        assert_eq!(sandbox.built(request.clone()), "", "no warning: {target} is the same directory");
        fs::remove_file(root.join("bin")).unwrap();
    }
    // An upper layer of the base image replaces the link by a directory, or removes it.
    fs::create_dir(root.join("bin")).unwrap();
    fs::write(root.join("bin/app"), "").unwrap();
    for upper in [layer(&["bin/", "bin/f"]), layer(&[".wh.bin"])] {
        sandbox.base(json!({}), &[debian(), upper]);
        assert_eq!(sandbox.built(request.clone()), "");
    }
    // A layer that cannot be read, because its file is cut.
    let mut spec = sandbox.read("base.json");
    let file = sandbox.path("cut.tar");
    fs::write(&file, &in_zstd(debian()).bytes[..40]).unwrap();
    spec["layers"][1]["layer-path"] = json!(file);
    sandbox.write("base.json", &spec);
    let warnings = sandbox.built(request);
    assert!(warnings.contains("warning: cannot read layer 2 of the base image"), "{warnings}");
}

/// Returns the entries of the layout's last layer, each with its type.
fn top_layer(sandbox: &Sandbox) -> Vec<(String, tar::EntryType)> {
    let (manifest, _) = sandbox.image();
    let digest = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap();
    let blob = fs::read(sandbox.path(&format!("l/blobs/sha256/{}", &digest["sha256:".len()..]))).unwrap();
    let mut archive = tar::Archive::new(&blob[..]);
    let entry = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        (path.trim_matches('/').to_owned(), entry.header().entry_type())
    };
    archive.entries().unwrap().map(entry).collect()
}

#[test]
fn a_directory_in_place_of_an_absolute_link_is_a_warning() {
    let sandbox = Sandbox::new();
    let files = sandbox.path("store").join(&APP["/nix/store/".len()..]).join("var/run");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("app.socket"), "").unwrap();
    let request = json!({"fromImage": sandbox.base_spec(), "copyToRoot": [APP]});
    let start =
        format!("warning: {APP} puts a directory at /var/run, where the base image has a link to /run. ");
    for (base, end) in [
        (
            layer(&["run/", "run/lock", "var/", "var/run -> /run"]),
            "Then the base image's files are only in /run: put the store path's files there too, or remove /var/run from \
             copyToRoot\n",
        ),
        (
            layer(&["var/", "var/run -> /run"]),
            "The directory replaces the link: put the store path's files at the link's target, or remove /var/run from \
             copyToRoot\n",
        ),
    ] {
        sandbox.base(json!({}), &[base]);
        assert_eq!(sandbox.built(request.clone()), format!("{start}{end}"));
        assert!(sandbox.layout(&[]).status.success());
        // The layer has the files at the place that copyToRoot names, and no entry below the link's target.
        let entries = top_layer(&sandbox);
        assert!(entries.contains(&("var/run".into(), tar::EntryType::Directory)), "{entries:?}");
        assert!(entries.contains(&("var/run/app.socket".into(), tar::EntryType::Regular)), "{entries:?}");
        assert!(!entries.iter().any(|(path, _)| path.starts_with("run")), "{entries:?}");
    }
    // A link to a file, or to nothing, that the image replaces with its own.
    fs::remove_dir_all(&files).unwrap();
    std::os::unix::fs::symlink("/elsewhere", &files).unwrap();
    assert_eq!(sandbox.built(request), "");
}

#[test]
fn a_link_in_place_of_the_store_is_a_warning() {
    let sandbox = Sandbox::new();
    let request = || json!({"fromImage": sandbox.base_spec(), "config": {"Cmd": [format!("{APP}/bin/app")]}});
    let warning = |link: &str, target: &str, hidden: &str| {
        format!(
            "warning: the image's store paths are in /nix/store, but the base image has a link to {target} at {link}. A \
             directory replaces the link{hidden}. Use a base image without the link\n"
        )
    };
    let elsewhere = ": the base image's files are then only in /mnt/nix";
    for (base, expected) in [
        (&["mnt/", "mnt/nix/", "mnt/nix/f", "nix -> /mnt/nix"][..], warning("/nix", "/mnt/nix", elsewhere)),
        (&["mnt/nix/f", "nix -> mnt/nix"], warning("/nix", "mnt/nix", elsewhere)),
        (&["nix -> /mnt/nix"], warning("/nix", "/mnt/nix", "")),
        (&["mnt/nix/f", "nix/store -> ../mnt/nix"], warning("/nix/store", "../mnt/nix", elsewhere)),
        (&["nix/store/f", "nix/var -> /mnt"], String::new()),
    ] {
        sandbox.base(json!({}), &[layer(base)]);
        assert_eq!(sandbox.built(request()), expected, "{base:?}");
        assert!(sandbox.layout(&[]).status.success());
        let entries = top_layer(&sandbox);
        for directory in ["nix", "nix/store"] {
            assert!(entries.contains(&(directory.into(), tar::EntryType::Directory)), "{entries:?}");
        }
    }
    // One warning for the image, even if copyToRoot also has files below the link.
    sandbox.base(json!({}), &[layer(&["nix -> /mnt/nix"])]);
    let directory = sandbox.path("store").join(&MORE["/nix/store/".len()..]).join("nix/var");
    fs::create_dir_all(&directory).unwrap();
    let said = sandbox
        .built(json!({"fromImage": sandbox.base_spec(), "copyToRoot": [MORE], "layers": [{"deps": [APP]}]}));
    assert_eq!(said, warning("/nix", "/mnt/nix", ""));
}

#[test]
fn wrong_values_of_oci_documents_are_named() {
    let sandbox = Sandbox::new();
    let import = |more: &[&str]| {
        let output = sandbox.run(&[&["n2c", "image-from-dir", "out.json", "base"], more].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        said(&output)
    };
    let config = |more: &str| {
        format!(r#"{{"os":"linux","architecture":"amd64",{more}"rootfs":{{"type":"layers","diff_ids":[]}}}}"#)
    };
    // Writes the document and returns its name.
    let write = |config: &str, more: &str| {
        let (digest, size) = (sandbox.blob(config.as_bytes()), config.len());
        let text = format!(
            r#"{{"schemaVersion":2,{more}"config":{{"digest":"{digest}","size":{size}}},"layers":[]}}"#
        );
        fs::write(sandbox.path("base/manifest.json"), text).unwrap();
        format!("base/{}", digest.hex())
    };
    let number =
        "must be a number from -1.7976931348623157e308 to 1.7976931348623157e308, not the number 1e400";
    write(&config(""), r#""x":{"y":[1,1e400]},"#);
    assert_eq!(import(&[]), format!("error: base/manifest.json: x.y[1] {number}\n"));
    let file = write(&config(r#""config":{"Labels":1e400},"#), "");
    assert_eq!(import(&[]), format!("error: {file}: config.Labels {number}\n"));
    let file = write(&config(r#""variant":"v9","#), "");
    let variants = "must be one of v1, v2, v3, v4 for the architecture amd64, not the text \"v9\"";
    assert_eq!(import(&[]), format!("error: {file}: variant {variants}\n"));
    write(&config(""), r#""mediaType":"application/vnd.oci.image.index.v1+json","#);
    let kind = "mediaType must be \"application/vnd.oci.image.manifest.v1+json\", not the text \
                \"application/vnd.oci.image.index.v1+json\"";
    assert_eq!(import(&[]), format!("error: base/manifest.json: {kind}\n"));
    write(&config(""), r#""manifests":[],"#);
    let both = "error: base/manifest.json cannot have the key `config`, which only a manifest has\n";
    assert_eq!(import(&[]), both);
    fs::write(sandbox.path("base/manifest.json"), r#"{"schemaVersion":2,"manifests":[{"size":1e400}]}"#)
        .unwrap();
    assert_eq!(import(&[]), format!("error: base/manifest.json: manifests[0].size {number}\n"));

    for (platform, known) in [
        ("arm/v9", "arm, or one of arm/v5, arm/v6, arm/v7, arm/v8"),
        ("amd64/v9", "amd64, or one of amd64/v1, amd64/v2, amd64/v3, amd64/v4"),
    ] {
        let why = format!("arch {platform:?} is not valid: expected {known}\n");
        let output = sandbox.run(&[
            "n2c",
            "image-from-dir",
            "out.json",
            "base",
            "--platform",
            &format!("linux/{platform}"),
        ]);
        assert_eq!(output.status.code(), Some(2));
        let expected =
            format!("error: invalid value 'linux/{platform}' for '--platform <OS/ARCH>': expected {known}\n");
        assert!(said(&output).starts_with(&expected), "{}", said(&output));
        let (code, error) = sandbox.build(json!({"arch": platform}));
        assert_eq!((code, error), (Some(1), format!("error: request.json: {why}")));
    }

    // A directory whose index is a manifest.
    sandbox.built(json!({}));
    assert!(sandbox.layout(&[]).status.success());
    let index = sandbox.path("l/index.json");
    let text = fs::read_to_string(&index).unwrap().replacen("image.index.v1", "image.manifest.v1", 1);
    fs::write(&index, &text).unwrap();
    let output = sandbox.layout(&[]);
    let expected = "error: l/index.json: mediaType must be \"application/vnd.oci.image.index.v1+json\", not the text \
                    \"application/vnd.oci.image.manifest.v1+json\": name another directory, or repair the file\n";
    assert_eq!((output.status.code(), said(&output)), (Some(1), expected.into()));
    assert_eq!(fs::read_to_string(&index).unwrap(), text);
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
            .contains("it is an index without an image for linux/s390x; it has linux/amd64, linux/arm64/v8")
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
        assert!(said.contains("its schemaVersion is 3, but this nixply supports only 2"), "{said}");
    }
    sandbox.write("index.json", &index);
    // An index instead of the base image's spec.
    let (code, said) = sandbox.build(json!({"fromImage": sandbox.path("index.json")}));
    assert_eq!(code, Some(1));
    assert!(said.contains("is an OCI manifest or index, not an image's spec"), "{said}");
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
