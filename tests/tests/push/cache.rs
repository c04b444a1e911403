//! The registry as the cache of all machines: layer keys, frames, and descriptions without the closure.

use std::fs;
use std::path::{Path, PathBuf};

use nixply_tests::engines::{Directory, Image, Registry, json, text, unique};
use nixply_tests::{Nix, harness, needs, run};
use serde_json::Value;

use super::{nixply, whole};

const IMAGE: &str = r#"{
    name = "cached"; config.entrypoint = [ "${pkgs.hello}/bin/hello" ]; config.env = [ "V=VERSION" ];
    copyToRoot = [ pkgs.bash ]; maxLayers = 4; compression = "zstd:1";
}"#;

/// Writes the request of an image as `nixply build` reads it. Returns the file.
fn request(nix: &Nix, directory: &Path, layers: u32) -> PathBuf {
    let fields = "{ copyToRoot = [ ]; layers = [ { deps = [ pkgs.hello pkgs.bash ]; maxLayers = 4; } ]; compression = \"zstd:1\"; }";
    let file = directory.join(format!("request-{layers}.json"));
    let fields = fields.replace("maxLayers = 4", &format!("maxLayers = {layers}"));
    fs::write(&file, nix.eval(&fields).to_string()).unwrap();
    file
}

#[test]
fn a_machine_with_an_empty_cache_packs_nothing_that_the_registry_names() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let repository = unique("-cache");
    let to = format!("{}/{repository}:main", registry.address);
    let frames = format!("{}/{repository}:frames", registry.address);
    let directory = Directory::new();
    let [first, second, third] = [Directory::new(), Directory::new(), Directory::new()];
    let build = |home: &Path, layers: u32, more: &[&str]| {
        let spec = directory.join(&format!("image-{layers}.json"));
        let mut command = nixply(&nix, home);
        command.arg("build").arg(request(&nix, directory.path(), layers)).arg("-o").arg(&spec).args(more);
        (run(&mut command), spec)
    };
    let (output, spec) = build(first.path(), 4, &[]);
    assert!(output.stderr.contains("4 packed"), "{}", output.stderr);
    output.ok();
    let expected = fs::read(&spec).unwrap();
    run(nixply(&nix, first.path()).arg("push").arg(&spec).args([&to, "--cache-to", &frames])).ok();
    whole(&registry, &repository, "main");
    let manifest = registry.get(&repository, "manifests", "main");
    let manifest = json(std::str::from_utf8(&manifest).unwrap());
    let keys: Vec<&str> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| text(&layer["annotations"]["io.github.nixply.layer-key"]))
        .collect();
    assert!(keys.len() == 4 && keys.iter().all(|key| key.len() == 64), "{manifest}");

    // Another machine: nothing is packed, and the spec is the same.
    let (output, spec) = build(second.path(), 4, &["--cache-from", &to]);
    assert!(
        output.stderr.contains("4 layers: 0 packed") || output.stderr.contains("4 reused"),
        "{}",
        output.stderr
    );
    output.ok();
    assert_eq!(fs::read(&spec).unwrap(), expected);
    // A reference that does not exist yet, as in the first run of CI, is no error.
    let absent = format!("{}/{repository}:absent", registry.address);
    build(second.path(), 4, &["--cache-from", &absent]).0.ok();

    // Another plan over the same paths: the frames come from the registry.
    let (output, spec) = build(third.path(), 1, &["--cache-from", &frames]);
    assert!(
        output.stderr.contains("fetched the frames of ") && output.stderr.contains(&frames),
        "{}",
        output.stderr
    );
    output.ok();
    let fetched = fs::read(&spec).unwrap();
    let (output, spec) = build(first.path(), 1, &["--no-cache"]);
    output.ok();
    assert_eq!(fs::read(&spec).unwrap(), fetched);
}

#[test]
fn a_registry_that_names_a_wrong_blob_is_contradicted_by_name() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let repository = unique("-contradicted");
    let (home, other) = (Directory::new(), Directory::new());
    let image = Image::build(&nix, "", &IMAGE.replace("VERSION", "1"));
    let to = |tag: &str| format!("{}/{repository}:{tag}", registry.address);
    run(nixply(&nix, home.path()).arg("push").arg(&image.spec).arg(to("right"))).ok();
    // A manifest whose layers have exchanged keys.
    let manifest = String::from_utf8(registry.get(&repository, "manifests", "right")).unwrap();
    let read = json(&manifest);
    let key = |at: usize| text(&read["layers"][at]["annotations"]["io.github.nixply.layer-key"]).to_owned();
    let wrong = manifest.replace(&key(0), "X").replace(&key(1), &key(0)).replace('X', &key(1));
    let media_type = text(&read["mediaType"]);
    registry.put_manifest(&repository, "wrong", media_type, &wrong);

    let request = home.join("request.json");
    let fields = "{ copyToRoot = [ ]; layers = [ { deps = [ pkgs.hello pkgs.bash ]; maxLayers = 4; } ]; compression = \"zstd:1\"; }";
    fs::write(&request, nix.eval(fields).to_string()).unwrap();
    let spec = home.join("image.json");
    let build = |more: &[&str]| {
        run(nixply(&nix, other.path()).arg("build").arg(&request).arg("-o").arg(&spec).args(more))
    };
    build(&["--cache-from", &to("wrong")]).ok();
    let unproven: Value = serde_json::from_slice(&fs::read(&spec).unwrap()).unwrap();
    let layout = other.join("layout");
    let output = run(nixply(&nix, other.path()).arg("layout").arg(&spec).arg(&layout));
    // The keys of other plans do not match, so a build may have packed everything. If it took a wrong digest, packing finds it.
    if unproven["layers"].as_array().unwrap().iter().any(|layer| {
        read["layers"].as_array().unwrap().iter().any(|known| known["digest"] == layer["digest"])
    }) {
        let error = output.fails();
        assert!(
            error.contains(&format!("a layer differs from the one that {} names", to("wrong"))),
            "{error}"
        );
        assert!(
            error.contains("hint: build the image again without --cache-from; if that does not help, push it to another tag"),
            "{error}"
        );
    }
}

#[test]
fn an_image_is_pushed_without_its_store_paths() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let repository = unique("-described");
    let to = |tag: &str| format!("{}/{repository}:{tag}", registry.address);
    let (home, other) = (Directory::new(), Directory::new());
    let image = Image::build(&nix, "", &IMAGE.replace("VERSION", "1"));
    run(nixply(&nix, home.path()).arg("push").arg(&image.spec).arg(to("1"))).ok();

    // The other machine has the description of a changed image, and an empty store.
    let changed = IMAGE.replace("VERSION", "2");
    let description = nix.build(&format!("(buildImage {changed}).description"));
    let copy = other.join("description.json");
    fs::copy(&description, &copy).unwrap();
    assert!(fs::metadata(&copy).unwrap().len() < 1 << 20);
    fs::create_dir(other.join("store")).unwrap();
    let push = |to: &str| {
        let mut command = nixply(&nix, other.path());
        command.arg("push").arg(&copy).arg(to).arg("--real-store-dir").arg(other.join("store"));
        run(command.env("PATH", "/nonexistent").arg("--store-dir").arg(nix.store_dir()))
    };
    let output = push(&to("1"));
    assert!(output.stderr.contains("sent 1 blob "), "{}", output.stderr);
    output.ok();
    let spec = nix.build(&format!("buildImage {changed}"));
    let inspected = run(nixply(&nix, other.path()).args(["inspect", "--json"]).arg(&spec)).ok();
    assert_eq!(whole(&registry, &repository, "1"), text(&json(&inspected)["manifestDigest"]));

    // A registry that lacks the layers: the error names the layer.
    let elsewhere = format!("{}/{}:1", registry.address, unique("-elsewhere"));
    let error = push(&elsewhere).fails();
    assert!(
        error.contains("cannot fetch the store paths of layer ") && error.contains("cannot run nix-store"),
        "{error}"
    );

    // Without a compression, the digests of the blobs are unknown.
    let plain =
        nix.build(&format!("(buildImage {}).description", changed.replace("compression = \"zstd:1\";", "")));
    fs::copy(&plain, &copy).unwrap();
    let error = push(&to("1")).fails();
    assert!(error.contains("the image was built without a compression"), "{error}");
    assert!(error.contains("hint: build the image with compression = \"zstd\" or \"gzip\""), "{error}");
}

#[test]
fn nothing_in_the_store_is_opened_if_the_registry_has_the_image() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let home = Directory::new();
    let image = Image::build(&nix, "", &IMAGE.replace("VERSION", "3"));
    let to = format!("{}/{}:1", registry.address, unique("-opened"));
    run(nixply(&nix, home.path()).arg("push").arg(&image.spec).arg(&to)).ok();
    let (trace, copy) = (home.join("trace"), home.join("image.json"));
    fs::copy(&image.spec, &copy).unwrap();
    let program = nixply(&nix, home.path());
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=file", "-o"]).arg(&trace).arg(program.get_program());
    command.args(["push"]).arg(&copy).arg(&to).arg("--store-dir").arg(nix.store_dir());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = run(&mut command);
    assert!(output.stderr.contains("the registry has this image already; 1 request"), "{}", output.stderr);
    output.ok();
    let store = format!("{}/", nix.store_dir().display());
    let trace = fs::read_to_string(&trace).unwrap();
    let opened: Vec<&str> =
        trace.lines().filter(|line| line.contains("open") && line.contains(&store)).collect();
    assert!(opened.is_empty(), "{opened:#?}");
}
