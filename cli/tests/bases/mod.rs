//! Base images in a directory, and builds on top of them.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use nixply_oci::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const APP: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-app";

pub(crate) const MORE: &str = "/nix/store/1123456789abcdfghijklmnpqrsvwxyz-more";

/// A store with two paths, and a working directory.
pub(crate) struct Sandbox(pub(crate) TempDir);

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

impl Sandbox {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, value: &Value) {
        fs::write(self.path(name), value.to_string()).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command.output().unwrap()
    }

    /// Builds `image.json`. Returns the exit code and standard error.
    pub(crate) fn build(&self, mut request: Value) -> (Option<i32>, String) {
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

    pub(crate) fn built(&self, request: Value) -> String {
        let (code, said) = self.build(request);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    pub(crate) fn layout(&self, more: &[&str]) -> Output {
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

    /// Writes a blob to the directory `base` and returns its digest.
    pub(crate) fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::create_dir_all(self.path("base")).unwrap();
        fs::write(self.path("base").join(digest.hex()), bytes).unwrap();
        digest
    }

    /// Writes `base.json`, the spec of an image with these layers and this config. Returns standard error.
    pub(crate) fn base(&self, config: Value, layers: &[Layer]) -> String {
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
        let directory = self.path("base");
        let output = self.run(&["n2c", "image-from-dir", "base.json", directory.to_str().unwrap()]);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    pub(crate) fn base_spec(&self) -> String {
        self.path("base.json").to_str().unwrap().to_owned()
    }

    /// Reads a document of the layout by its digest.
    pub(crate) fn document(&self, digest: &Value) -> Value {
        self.read(&format!("l/blobs/sha256/{}", &digest.as_str().unwrap()["sha256:".len()..]))
    }

    /// Returns the last manifest and config of the layout `l`.
    pub(crate) fn image(&self) -> (Value, Value) {
        let index = self.read("l/index.json");
        let manifest = self.document(&index["manifests"].as_array().unwrap().last().unwrap()["digest"]);
        let config = self.document(&manifest["config"]["digest"]);
        (manifest, config)
    }
}

pub(crate) struct Layer {
    pub(crate) tar: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: &'static str,
}

/// Makes a layer of these entries: `name/`, `name -> target`, or a file.
pub(crate) fn layer(entries: &[&str]) -> Layer {
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

/// Compresses a layer like Docker does with zstd.
pub(crate) fn in_zstd(layer: Layer) -> Layer {
    let mut bytes = Vec::with_capacity(zstd_safe::compress_bound(layer.tar.len()));
    zstd_safe::compress(&mut bytes, &layer.tar, 3).unwrap();
    Layer { bytes, media_type: "application/vnd.docker.image.rootfs.diff.tar.zstd", ..layer }
}
