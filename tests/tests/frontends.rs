//! All frontends produce the same bytes: plugin, builder, builtin builder and program.

use std::fs;
use std::path::{Path, PathBuf};

use nixply_oci::Digest;
use nixply_packer::Codec;
use nixply_tests::modules::config;
use nixply_tests::{Nix, expression, harness, run};
use serde_json::{Value, json};

/// An image with everything that could differ between frontends.
const IMAGE: &str = r#"{
    name = "Frontends";
    config = { entrypoint = [ "${pkgs.hello}/bin/hello" ]; Env = [ "A=<&>" ]; Labels.x = "é"; };
    copyToRoot = [ pkgs.bash ];
    layers = [
      { deps = [ pkgs.coreutils ]; maxLayers = 3; metadata = { created_by = "test"; }; }
      { deps = [ pkgs.zlib ]; ignore = [ pkgs.glibc ]; strategy = "explicit"; groups = [ [ pkgs.zlib ] ]; }
    ];
    perms = [ { path = pkgs.bash; regex = "bin/bash$"; mode = "0755"; uid = 1000; gid = null; uname = "u"; } ];
    maxLayers = 4;
    groups = [
      { paths = { depsOf = pkgs.bash; }; strategy = "per-path"; maxLayers = 3; }
      [ "${pkgs.hello}" { all = [ { name = "he[l-z]+o-.*"; } { minSize = "1 kB"; } { not = { dependentsOf = [ pkgs.bash ]; }; } ]; } ]
    ];
    created = "2024-05-13T09:31:10Z";
    compression = "COMPRESSION";
}"#;

/// The same image as a request for the program. It adds values that Nix knows in the other frontends (the
/// config's store paths, the architecture), and omits attributes that a request does not have.
const REQUEST: &str = r#"builtins.removeAttrs (IMAGE) [ "name" ] // {
    configRoots = [ pkgs.hello ];
    arch = { x86_64-linux = "amd64"; aarch64-linux = "arm64"; }.${builtins.currentSystem};
}"#;

/// Returns the names of all codecs.
fn compressions() -> impl Iterator<Item = &'static str> {
    Codec::all().map(Codec::name)
}

fn image(compression: &str) -> String {
    IMAGE.replace("COMPRESSION", compression)
}

/// Writes the request to a file and builds everything that it names.
fn request(nix: &Nix, image: &str, directory: &Path) -> PathBuf {
    let file = directory.join("request.json");
    fs::write(&file, nix.eval(&REQUEST.replace("IMAGE", image)).to_string()).unwrap();
    file
}

/// Writes the output of `nix path-info` for the request's store paths to a file.
fn closure(nix: &Nix, request: &Path, directory: &Path) -> PathBuf {
    let text = fs::read_to_string(request).unwrap();
    let store_dir = nix.store_dir().display().to_string();
    let is_path = |text: &&str| text.starts_with(&store_dir) && !text[store_dir.len() + 1..].contains('/');
    let roots = text.split('"').filter(is_path).collect::<Vec<_>>();
    assert!(roots.len() >= 4, "{text}");
    let file = directory.join("closure.json");
    let mut command = nix.bare_command("nix", "");
    fs::write(&file, run(command.args(["path-info", "--json", "--recursive"]).args(roots)).ok()).unwrap();
    file
}

/// Returns the builtin's attributes except those of a derivation, packed with this number of threads.
fn plugin(nix: &Nix, image: &str, jobs: &str) -> Value {
    let body = format!(
        "let image = builtins.nixplyImage ({image}); in {{ inherit (image) imageName imageId manifestDigest layers; \
         spec = builtins.readFile image.outPath; }}"
    );
    let mut command = nix.command("nix");
    command.args(["eval", "--impure", "--json", "--option", "nixply-jobs", jobs]);
    // Without a cache, because cached results would prove nothing.
    command.args(["--option", "nixply-cache-dir", "none", "--expr"]);
    serde_json::from_str(&run(command.arg(expression(nix, &body))).ok()).unwrap()
}

/// Returns `nix/build-image.nix` with the builder `builtin:nixply`, if the plugin can register it.
fn builtin_builder(nix: &Nix) -> Option<String> {
    (nix.has_builtin_builders() && nix.plugin.is_some()).then(|| {
        format!(
            "import {}/nix/build-image.nix {{ builder = \"builtin:nixply\"; args = [ ]; usePlugin = false; }}",
            Nix::repository().display()
        )
    })
}

/// Labels replace those of the config with the same name, and the other labels of both remain.
#[test]
fn every_frontend_adds_labels_to_the_config() {
    let nix = harness!();
    let image =
        r#"{ name = "x"; config = { Labels = { a = "1"; b = "1"; }; }; labels = { b = "2"; c = "3"; }; }"#;
    let expected = json!({ "a": "1", "b": "2", "c": "3" });
    let mut frontends = vec![
        format!("buildImage {image}"),
        format!("(drop_in false).nix2container.buildImage {image}"),
        config(
            r#"{ containers.web = { copyToRoot = null; labels = { a = "1"; b = "2"; c = "3"; }; }; }"#,
            "config.containers.web.derivation",
        ),
    ];
    if nix.plugin.is_some() {
        frontends.push(format!("(drop_in true).nix2container.buildImage {image}"));
        frontends.push(format!("builtins.nixplyImage {image}"));
    }
    for frontend in &frontends {
        let spec: Value = serde_json::from_str(&fs::read_to_string(nix.build(frontend)).unwrap()).unwrap();
        assert_eq!(spec["image-config"]["Labels"], expected, "{frontend}");
    }
    let directory = tempfile::tempdir().unwrap();
    let request = directory.path().join("request.json");
    fs::write(&request, r#"{"config": {"labels": {"a": "1", "b": "1"}}, "labels": {"b": "2", "c": "3"}}"#)
        .unwrap();
    let spec: Value = serde_json::from_str(&run(nix.nixply().arg("build").arg(&request)).ok()).unwrap();
    assert_eq!(spec["image-config"]["Labels"], expected);
}

#[test]
fn every_frontend_produces_the_same_spec() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    for compression in compressions() {
        let image = image(compression);
        let built = nix.build(&format!("buildImage {image}"));
        let spec = fs::read_to_string(&built).unwrap();
        assert!(spec.contains("\"created\": \"2024-05-13T09:31:10Z\""), "{spec}");
        assert!(spec.contains("A=\\u003c\\u0026\\u003e"), "{spec}");
        let inspected = run(nix.nixply().args(["inspect", "--json"]).arg(&built)).ok();
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        // Three of coreutils, one of zlib, and at most four for the rest.
        let layers = inspected["layers"].as_array().unwrap();
        assert!((5..=8).contains(&layers.len()), "{inspected}");
        let media_type = format!(
            "application/vnd.oci.image.layer.v1.tar{}",
            if compression == "none" { String::new() } else { format!("+{compression}") }
        );
        assert!(layers.iter().all(|layer| layer["mediaType"] == media_type.as_str()), "{inspected}");

        let request = request(&nix, &image, directory.path());
        let closure = closure(&nix, &request, directory.path());
        for jobs in ["1", "2", "8"] {
            let asked =
                run(nix.nixply().args(["build", "--quiet", "--no-cache", "--jobs", jobs]).arg(&request));
            assert_eq!(asked.stderr, "");
            assert_eq!(asked.stdout, spec, "{compression}, the program with {jobs} jobs");
            let output = directory.path().join("image.json");
            let mut command = nix.nixply();
            command.env("PATH", "").args(["build", "--no-cache", "--jobs", jobs, "-o"]).arg(&output);
            run(command.arg("--closure").arg(&closure).arg(&request)).ok();
            let given = fs::read_to_string(&output).unwrap();
            assert_eq!(given, spec, "{compression}, the program with a closure file and {jobs} jobs");
            if nix.plugin.is_some() {
                let mut plugin = plugin(&nix, &image, jobs);
                assert_eq!(plugin["spec"], spec.as_str(), "{compression}, the plugin with {jobs} jobs");
                assert_eq!(plugin["imageName"], "frontends");
                for other in ["spec", "imageName"] {
                    plugin.as_object_mut().unwrap().remove(other);
                }
                assert_eq!(plugin, inspected, "{compression}");
            }
        }
    }
}

#[test]
fn one_core_produces_the_same_bytes_as_many() {
    let nix = harness!();
    let mut frontends = vec!["buildImage".to_owned()];
    frontends.extend(builtin_builder(&nix));
    for frontend in frontends {
        let expression = expression(&nix, &format!("({frontend}) {}", image("zstd")));
        for options in [vec!["--cores", "8"], vec!["--cores", "1", "--check"]] {
            run(nix.command("nix-build").args(["--no-out-link", "-E", &expression]).args(options)).ok();
        }
    }
}

#[test]
fn builtin_builder_produces_the_same_spec() {
    let nix = harness!();
    let Some(frontend) = builtin_builder(&nix) else {
        // If plugins of this Nix cannot register builders, the plugin still loads, and Nix reports the unknown builder.
        let error = nix.try_build(
            "derivation { name = \"x\"; system = builtins.currentSystem; builder = \"builtin:nixply\"; }",
        );
        let error = error.fails();
        assert!(error.contains("unsupported builtin"), "{error}");
        return;
    };
    for compression in compressions() {
        let image = image(compression);
        let inside = fs::read_to_string(nix.build(&format!("({frontend}) {image}"))).unwrap();
        let outside = fs::read_to_string(nix.build(&format!("buildImage {image}"))).unwrap();
        assert_eq!(inside, outside, "{compression}");
    }
}

#[test]
fn plan_matches_the_packed_layers_in_every_frontend() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    let image = image("none");
    let built = nix.build(&format!("buildImage {image}"));
    let request = request(&nix, &image, directory.path());
    let plan = run(nix.nixply().args(["plan", "--json"]).arg(&request)).ok();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let inspected = run(nix.nixply().args(["inspect", "--json"]).arg(&built)).ok();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let paths = |layers: &Value| {
        layers.as_array().unwrap().iter().map(|layer| layer["paths"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(paths(&plan), paths(&inspected["layers"]));
    // The sizes equal those that Nix knows.
    let closure = fs::read_to_string(closure(&nix, &request, directory.path())).unwrap();
    let known = nixply_planning::Closure::from_json(&closure).unwrap();
    for layer in plan.as_array().unwrap() {
        let size = |path: &Value| known.get_named(path.as_str().unwrap()).unwrap().nar_size;
        let sum: u64 = layer["paths"].as_array().unwrap().iter().map(size).sum();
        assert_eq!(layer["size"], sum);
        assert_ne!(sum, 0);
    }
    if nix.plugin.is_some() {
        assert_eq!(nix.eval(&format!("builtins.nixplyPlan ({image})")), plan);
    }
}

#[test]
fn base_image_is_the_same_in_every_frontend() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    let base = format!("(buildImage {})", image("gzip"));
    let upper = format!(
        "{{ name = \"upper\"; fromImage = {base}; copyToRoot = pkgs.hello; compression = \"zstd\"; }}"
    );
    let built = nix.build(&format!("buildImage {upper}"));
    let spec = fs::read_to_string(&built).unwrap();
    let layers = |path: &Path| {
        let inspected = run(nix.nixply().args(["inspect", "--json"]).arg(path)).ok();
        serde_json::from_str::<Value>(&inspected).unwrap()["layers"].as_array().unwrap().clone()
    };
    let below = layers(&nix.build(&base));
    let all = layers(&built);
    assert_eq!(all[..below.len()], below[..]);
    assert_eq!(all.len(), below.len() + 1);

    let request = directory.path().join("request.json");
    let fields = format!(
        "removeAttrs ({upper}) [ \"name\" ] // {{ copyToRoot = [ pkgs.hello ]; arch = \
         {{ x86_64-linux = \"amd64\"; aarch64-linux = \"arm64\"; }}.${{builtins.currentSystem}}; }}"
    );
    fs::write(&request, nix.eval(&fields).to_string()).unwrap();
    assert_eq!(run(nix.nixply().arg("build").arg(&request)).stdout, spec);
    let plan = run(nix.nixply().args(["plan", "--json"]).arg(&request)).ok();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan.as_array().unwrap().len(), all.len());
    if nix.plugin.is_some() {
        assert_eq!(plugin(&nix, &upper, "2")["spec"], spec.as_str());
        assert_eq!(nix.eval(&format!("builtins.nixplyPlan ({upper})")), plan);
    }
}

#[test]
fn layout_has_the_digests_of_the_spec() {
    let nix = harness!();
    for compression in compressions() {
        let directory = tempfile::tempdir().unwrap();
        let built = nix.build(&format!("buildImage {}", image(compression)));
        let inspected = run(nix.nixply().args(["inspect", "--json"]).arg(&built)).ok();
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        let layout = directory.path().join("layout");
        let printed = run(nix.nixply().args(["layout", "--quiet", "--jobs", "2"]).arg(&built).arg(&layout));
        assert_eq!(printed.stderr, "");
        assert_eq!(json!(printed.stdout.trim_end()), inspected["manifestDigest"]);
        let blob = |digest: &Value| {
            let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = fs::read(layout.join("blobs/sha256").join(hex)).unwrap();
            assert_eq!(json!(Digest::of(&bytes)), *digest);
            bytes
        };
        for layer in inspected["layers"].as_array().unwrap() {
            assert_eq!(blob(&layer["digest"]).len() as u64, layer["size"]);
        }
        let manifest: Value = serde_json::from_slice(&blob(&inspected["manifestDigest"])).unwrap();
        assert_eq!(manifest["config"]["digest"], inspected["imageId"]);
        let config: Value = serde_json::from_slice(&blob(&inspected["imageId"])).unwrap();
        let diff_ids: Vec<_> =
            inspected["layers"].as_array().unwrap().iter().map(|layer| layer["diffId"].clone()).collect();
        assert_eq!(config["rootfs"]["diff_ids"], Value::from(diff_ids));
        // The manifest, the config, and one blob per layer.
        let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().count();
        assert_eq!(blobs, 2 + inspected["layers"].as_array().unwrap().len());
    }
}

/// A .drv file that the config names is in the image like any other store path.
#[test]
fn drv_file_in_the_config_is_in_the_image_in_every_frontend() {
    let nix = harness!();
    // A derivation that names its own file must also be built, because the file's context includes it.
    let derivation = r#"derivation { name = "a"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" ": > $out" ]; }"#;
    let image = format!(r#"{{ name = "drv"; config.Env = [ "D=${{({derivation}).drvPath}}" ]; }}"#);
    let builder = fs::read_to_string(nix.build(&format!("buildImage {image}"))).unwrap();
    assert_eq!(builder.matches("-a.drv\"").count(), 2, "it must be in Env and in a layer: {builder}");
    if nix.plugin.is_some() {
        assert_eq!(fs::read_to_string(nix.build(&format!("builtins.nixplyImage {image}"))).unwrap(), builder);
    }
}
