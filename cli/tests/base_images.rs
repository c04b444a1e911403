//! Images of other tools: as base images, and beside ours in a layout. Each test is named after what somebody has found.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nixply_packer::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

const APP: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-app";
const MORE: &str = "/nix/store/1123456789abcdfghijklmnpqrsvwxyz-more";

/// A store with two paths, and a folder to work in.
struct Sandbox(TempDir);

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self(tempfile::tempdir().unwrap());
        let store = sandbox.path("store");
        for (path, file) in [(APP, "bin/app"), (MORE, "share/more")] {
            let file = store.join(&path["/nix/store/".len()..]).join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, path).unwrap();
        }
        sandbox.write(
            "closure.json",
            &json!([
                {"path": APP, "narHash": "", "narSize": 1000, "references": []},
                {"path": MORE, "narHash": "", "narSize": 234_000, "references": [APP]},
            ]),
        );
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, value: &Value) {
        fs::write(self.path(name), value.to_string()).unwrap();
    }

    fn read(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command.output().unwrap()
    }

    /// Builds `image.json`; gives the exit code and what was said.
    fn build(&self, mut request: Value) -> (Option<i32>, String) {
        let fields = request.as_object_mut().unwrap();
        fields.entry("arch").or_insert_with(|| "amd64".into());
        self.write("request.json", &request);
        let output = self.run(&[
            "build",
            "--quiet",
            "--no-cache",
            "--closure",
            "closure.json",
            "--real-store-dir",
            "store",
            "-o",
            "image.json",
            "request.json",
        ]);
        (output.status.code(), said(&output))
    }

    fn built(&self, request: Value) -> String {
        let (code, said) = self.build(request);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    fn layout(&self, more: &[&str]) -> Output {
        let common = [
            "layout",
            "--quiet",
            "--no-cache",
            "--allow-outside-store",
            "--real-store-dir",
            "store",
            "image.json",
            "l",
        ];
        self.run(&[&common[..], more].concat())
    }

    /// A blob in the folder `base`; gives its digest.
    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::create_dir_all(self.path("base")).unwrap();
        fs::write(self.path("base").join(digest.hex()), bytes).unwrap();
        digest
    }

    /// Makes `base.json` of an image with these layers and `config`; gives what was said.
    fn base(&self, config: Value, layers: &[Layer]) -> String {
        let mut document = json!({
            "os": "linux", "architecture": "amd64", "config": {},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| Digest::of(&layer.tar)).collect::<Vec<_>>()},
        });
        document.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let config = document.to_string();
        let layer = |layer: &Layer| json!({"mediaType": layer.media_type, "digest": self.blob(&layer.bytes), "size": layer.bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": self.blob(config.as_bytes()), "size": config.len()},
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        });
        self.write("base/manifest.json", &manifest);
        let folder = self.path("base");
        let output = self.run(&["n2c", "image-from-dir", "base.json", folder.to_str().unwrap()]);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    fn upon(&self) -> String {
        self.path("base.json").to_str().unwrap().to_owned()
    }

    /// A document of the layout by its digest.
    fn document(&self, digest: &Value) -> Value {
        self.read(&format!("l/blobs/sha256/{}", &digest.as_str().unwrap()["sha256:".len()..]))
    }

    /// The manifest and config that the layout `l` has last.
    fn image(&self) -> (Value, Value) {
        let index = self.read("l/index.json");
        let manifest = self.document(&index["manifests"].as_array().unwrap().last().unwrap()["digest"]);
        let config = self.document(&manifest["config"]["digest"]);
        (manifest, config)
    }
}

struct Layer {
    tar: Vec<u8>,
    bytes: Vec<u8>,
    media_type: &'static str,
}

/// A layer of these entries: `name/`, `name -> target`, or a file.
fn layer(entries: &[&str]) -> Layer {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o755);
        match entry.split_once(" -> ") {
            Some((name, target)) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, name, target).unwrap();
            }
            None => {
                if entry.ends_with('/') {
                    header.set_entry_type(tar::EntryType::Directory);
                }
                builder.append_data(&mut header, entry, std::io::empty()).unwrap();
            }
        }
    }
    let tar = builder.into_inner().unwrap();
    Layer { bytes: tar.clone(), tar, media_type: "application/vnd.oci.image.layer.v1.tar" }
}

/// The same as Docker writes it in zstd.
fn in_zstd(layer: Layer) -> Layer {
    let mut bytes = Vec::with_capacity(zstd_safe::compress_bound(layer.tar.len()));
    zstd_safe::compress(&mut bytes, &layer.tar, 3).unwrap();
    Layer { bytes, media_type: "application/vnd.docker.image.rootfs.diff.tar.zstd", ..layer }
}

#[test]
fn layout_of_others_keeps_its_fields() {
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
    assert_eq!(after.to_string(), index.to_string(), "field for field, in their order");
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
fn base_image_of_another_platform_is_an_error() {
    let sandbox = Sandbox::new();
    let upon = || json!({"fromImage": sandbox.upon(), "config": {"Cmd": [APP]}});
    let more = |more: Value| {
        let mut request = upon();
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
        upon(),
        &["base.json is not valid", "linux/arm64/v8", "linux/amd64", "set arch", "anyPlatform = true"],
    );
    assert!(!sandbox.path("image.json").exists());
    sandbox.built(more(json!({"arch": "arm64"})));
    sandbox.built(more(json!({"anyPlatform": true})));
    assert_eq!(sandbox.read("image.json")["arch"], "amd64");

    sandbox.base(json!({"os": "windows"}), &[layer(&["f"])]);
    refused(upon(), &["windows/amd64", "linux/amd64"]);
    sandbox.base(json!({"architecture": "arm", "variant": "v7"}), &[layer(&["f"])]);
    refused(more(json!({"arch": null, "system": "armv6l-linux"})), &["linux/arm/v7", "linux/arm/v6"]);
    sandbox.built(more(json!({"arch": "arm"})));
    assert_eq!(sandbox.read("image.json")["variant"], "v7", "the base image's");
    // Nothing is known of what nix2container has written.
    sandbox.base(json!({"architecture": "", "os": ""}), &[layer(&["f"])]);
    sandbox.built(upon());
}

#[test]
fn an_arch_is_checked_and_has_its_variant() {
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
fn base_image_that_has_the_paths_is_not_packed_again() {
    let sandbox = Sandbox::new();
    sandbox.built(json!({"config": {"Cmd": [format!("{MORE}/share/more")]}}));
    let base = sandbox.read("image.json");
    sandbox.write("base.json", &base);
    let upon = |more: Value| {
        let mut request = json!({"fromImage": sandbox.upon(), "config": {"Cmd": [format!("{MORE}/share/more")]}, "maxLayers": 5});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let said = sandbox.built(request);
        let image = fs::read_to_string(sandbox.path("image.json")).unwrap();
        (image.matches(&format!("\"path\": \"{APP}\"")).count(), said)
    };
    assert_eq!(upon(json!({})), (1, String::new()));
    assert_eq!(sandbox.read("image.json")["layers"], base["layers"]);
    assert_eq!(upon(json!({"layers": [{"deps": [APP]}]})), (1, String::new()), "layers, too");
    // With other rules it is another file.
    let (count, said) = upon(json!({"perms": [{"path": APP, "mode": "0700"}]}));
    assert!(count == 2 && said.contains("with other perms"), "{said}");
    // nix2container's layers are what they are.
    let (count, said) = upon(json!({"strategy": "popularity"}));
    assert_eq!(count, 2);
    assert!(
        said.contains(
            "warning: 2 store paths are in the image twice (235.0 kB), for the base image has them already"
        ),
        "{said}"
    );
    assert!(said.contains(APP) && said.contains("strategy = \"nixply\""), "{said}");
    // A layer of nix2container's functions: its own digest as it is, unless a strategy is chosen.
    let parents = |strategy: Value| json!({"layers": [{"deps": [APP], "parents": [], "strategy": strategy}]});
    assert_eq!(upon(parents(Value::Null)).0, 2);
    assert_eq!(upon(parents("nixply".into())), (1, String::new()));
    // Two layers that know nothing of each other (nlewo/nix2container#41).
    let (_, said) =
        upon(json!({"fromImage": null, "layers": [{"deps": [APP]}, {"deps": [MORE], "parents": []}]}));
    assert!(
        said.contains("1 store path is in the image twice (1.0 kB), for layers that know nothing"),
        "{said}"
    );

    // What a layer of others could hide is packed.
    let mut covered = base;
    let file = sandbox.path("layer.tar");
    let above = layer(&["nix/store/.wh.0123456789abcdfghijklmnpqrsvwxyz-app"]);
    fs::write(&file, &above.bytes).unwrap();
    let digest = Digest::of(&above.bytes);
    let above = json!({"digest": digest, "size": above.bytes.len(), "diff_ids": digest, "mediatype": above.media_type, "layer-path": file, "History": {}});
    covered["layers"].as_array_mut().unwrap().push(above);
    sandbox.write("base.json", &covered);
    assert_eq!(upon(json!({})).0, 2);
}

#[test]
fn docker_zstd_layers_are_taken_and_converted() {
    let sandbox = Sandbox::new();
    let base = || in_zstd(layer(&["etc/", "etc/file"]));
    sandbox.base(json!({}), &[base()]);
    let spec = sandbox.read("base.json");
    assert_eq!(spec["layers"][0]["mediatype"], "application/vnd.oci.image.layer.v1.tar+zstd");
    sandbox.built(json!({"fromImage": sandbox.upon(), "config": {"Cmd": [APP]}}));
    let layers = |more: &[&str]| {
        let output = sandbox.layout(more);
        assert!(output.status.success(), "{}", said(&output));
        sandbox.image().0["layers"].clone()
    };
    assert_eq!(layers(&[])[0]["digest"], json!(Digest::of(&base().bytes)), "as it is");
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
    // Another content than the config says.
    let mut spec = sandbox.read("image.json");
    spec["layers"][0]["diff_ids"] = json!(Digest::of(b""));
    sandbox.write("image.json", &spec);
    let output = sandbox.layout(&["--compression", "gzip"]);
    assert!(said(&output).contains("but the image spec records sha256:e3b0"), "{}", said(&output));
}

/// As for a Docker before 23.
#[test]
fn docker_zstd_layers_are_served_without_zstd() {
    let sandbox = Sandbox::new();
    sandbox.base(json!({}), &[in_zstd(layer(&["etc/", "etc/file"]))]);
    sandbox.built(json!({"fromImage": sandbox.upon()}));
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
        let mut request = json!({"fromImage": sandbox.upon(), "config": {"Cmd": [APP]}});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        sandbox.built(request);
        sandbox.layout(&[]);
        let (manifest, config) = sandbox.image();
        let told = config["history"].as_array().unwrap();
        assert_eq!(told[..4], history.as_array().unwrap()[..]);
        assert_eq!(told[4..], [json!({"created_by": "nix2container"})]);
        let with_layer = told.iter().filter(|entry| entry.get("empty_layer").is_none()).count();
        assert_eq!(with_layer, manifest["layers"].as_array().unwrap().len());
    }
    // An image upon that image.
    fs::rename(sandbox.path("image.json"), sandbox.path("base.json")).unwrap();
    sandbox.built(json!({"fromImage": sandbox.upon(), "config": {"Cmd": [MORE]}}));
    sandbox.layout(&[]);
    assert_eq!(sandbox.image().1["history"].as_array().unwrap()[..4], history.as_array().unwrap()[..]);
}

#[test]
fn link_of_the_base_image_is_told() {
    let sandbox = Sandbox::new();
    let debian = || layer(&["usr/", "usr/bin/", "usr/bin/sh", "bin -> usr/bin", "lib/", "lib/f", "etc/"]);
    let request = json!({"fromImage": sandbox.upon(), "copyToRoot": [APP]});
    for base in [debian(), in_zstd(debian())] {
        sandbox.base(json!({}), &[base]);
        let told = sandbox.built(request.clone());
        let expected = format!(
            "warning: {APP} puts a directory at /bin, where the base image has a link to usr/bin: the base image's files are in \
             /usr/bin alone then; put the store path's files there, too, or leave /bin out of copyToRoot\n"
        );
        assert_eq!(told, expected);
        assert_eq!(
            sandbox.built(json!({"fromImage": sandbox.upon(), "layers": [{"copyToRoot": [APP]}]})),
            expected
        );
    }
    // With a cache, the base image's files are read once.
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
    // A link of ours in the place of a directory, and of a link.
    let root = sandbox.path("store").join(&APP["/nix/store/".len()..]);
    std::os::unix::fs::symlink("bin", root.join("lib")).unwrap();
    let told = sandbox.built(request.clone());
    assert!(
        told.lines().any(|line| line.contains("puts a link at /lib, where the base image has a directory")),
        "{told}"
    );
    fs::remove_dir_all(root.join("bin")).unwrap();
    fs::remove_file(root.join("lib")).unwrap();
    for target in ["usr/bin", "./usr/bin", "/usr/bin/"] {
        std::os::unix::fs::symlink(target, root.join("bin")).unwrap();
        assert_eq!(sandbox.built(request.clone()), "", "the same directory");
        fs::remove_file(root.join("bin")).unwrap();
    }
    // An upper layer of the base has made it a directory, or has taken it away.
    fs::create_dir(root.join("bin")).unwrap();
    fs::write(root.join("bin/app"), "").unwrap();
    for upper in [layer(&["bin/", "bin/f"]), layer(&[".wh.bin"])] {
        sandbox.base(json!({}), &[debian(), upper]);
        assert_eq!(sandbox.built(request.clone()), "");
    }
    // It cannot be looked into.
    let mut spec = sandbox.read("base.json");
    let file = sandbox.path("cut.tar");
    fs::write(&file, &in_zstd(debian()).bytes[..40]).unwrap();
    spec["layers"][1]["layer-path"] = json!(file);
    sandbox.write("base.json", &spec);
    let told = sandbox.built(request);
    assert!(told.contains("warning: cannot look into layer 2 of the base image"), "{told}");
}

#[test]
fn manifest_of_several_platforms_names_them() {
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
    // Some tools repeat the config's type as artifactType; of another type it is no image.
    for (kind, told) in [
        ("application/vnd.oci.image.config.v1+json", format!("no file for sha256:{}", "1".repeat(64))),
        ("application/vnd.example.sbom", "it is an index without an image".into()),
    ] {
        let mut image = entry("amd64", None, '1');
        image["artifactType"] = json!(kind);
        sandbox.write("index.json", &json!({"schemaVersion": 2, "manifests": [image]}));
        let said = run(&[]);
        assert!(said.contains(&told), "{said}");
    }
    for document in [json!({"manifests": []}), json!({"layers": [], "config": {}})] {
        let mut document = document;
        document["schemaVersion"] = json!(3);
        sandbox.write("index.json", &document);
        let said = run(&[]);
        assert!(said.contains("its schemaVersion is 3, this nixply knows 2"), "{said}");
    }
    sandbox.write("index.json", &index);
    // As the base image's spec.
    let (code, said) = sandbox.build(json!({"fromImage": sandbox.path("index.json")}));
    assert_eq!(code, Some(1));
    assert!(said.contains("it is a manifest or index of OCI, not an image's spec"), "{said}");
}

#[test]
fn a_base_images_field_is_cleared_by_an_empty_value() {
    let sandbox = Sandbox::new();
    sandbox.base(
        json!({"config": {"Entrypoint": ["/e"], "Cmd": ["c"], "User": "u", "Env": ["A=1"]}}),
        &[layer(&["f"])],
    );
    let config = |own: Value| {
        sandbox.built(json!({"fromImage": sandbox.upon(), "inheritConfig": true, "config": own}));
        sandbox.read("image.json")["image-config"].clone()
    };
    assert_eq!(config(json!({"cmd": [], "User": ""})), json!({"Env": ["A=1"], "Entrypoint": ["/e"]}));
    assert_eq!(config(json!({"Entrypoint": [], "Cmd": null})), json!({"User": "u", "Env": ["A=1"]}));
}
