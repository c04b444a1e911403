//! Images that are planned together, and lock files, with a real Nix in both frontends.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nixply_tests::{Nix, harness, run};
use serde_json::Value;

/// Three images that share many paths. None has more layers than its limit.
const IMAGES: &str = r#"{
    web = { config.Cmd = [ "${pkgs.hello}/bin/hello" ]; copyToRoot = [ pkgs.bash ]; maxLayers = 4; LOCK };
    worker = { name = "team/worker"; config.Cmd = [ "${pkgs.bash}/bin/bash" ]; maxLayers = 3; LOCK };
    tools = { copyToRoot = [ pkgs.coreutils ]; config.Env = [ "SHELL=${pkgs.bash}/bin/bash" ]; maxLayers = 4; tag = "v1"; LOCK };
}"#;

fn images(lock: &str) -> String {
    IMAGES.replace("LOCK", lock)
}

/// Returns the images' specs and names from a frontend.
fn built(nix: &Nix, images: &str, use_plugin: bool) -> BTreeMap<String, (Value, String)> {
    let body = format!(
        "builtins.mapAttrs (_: image: {{ spec = builtins.readFile image; name = image.imageName; }}) \
         (buildImages {use_plugin} {images})"
    );
    let all = nix.eval(&body);
    let image = |(key, image): (&String, &Value)| {
        let spec = serde_json::from_str(image["spec"].as_str().unwrap()).unwrap();
        (key.clone(), (spec, image["name"].as_str().unwrap().to_owned()))
    };
    all.as_object().unwrap().iter().map(image).collect()
}

/// Returns each layer's digest and paths.
fn layers(spec: &Value) -> Vec<(String, Vec<String>)> {
    let paths = |layer: &Value| {
        let paths = layer["paths"].as_array().unwrap();
        paths.iter().map(|path| path["path"].as_str().unwrap().to_owned()).collect()
    };
    let layer = |layer: &Value| (layer["digest"].as_str().unwrap().to_owned(), paths(layer));
    spec["layers"].as_array().unwrap().iter().map(layer).collect()
}

#[test]
fn fleet_images_share_layers_in_every_frontend() {
    let nix = harness!();
    let all = built(&nix, &images(""), false);
    assert_eq!(all.keys().collect::<Vec<_>>(), ["tools", "web", "worker"]);
    for (key, name, limit) in [("tools", "tools", 4), ("web", "web", 4), ("worker", "team/worker", 3)] {
        let (spec, named) = &all[key];
        assert_eq!(named, name);
        let layers = layers(spec);
        assert!(layers.len() <= limit, "{key}: {layers:?}");
        // The image has the same paths as on its own.
        let alone = nix.build(&format!("buildImage ({{ name = \"{key}\"; }} // ({}).{key})", images("")));
        let alone: Value = serde_json::from_str(&fs::read_to_string(alone).unwrap()).unwrap();
        let sorted = |spec: &Value| {
            let mut paths: Vec<String> = layers_of(spec);
            paths.sort();
            paths
        };
        assert_eq!(sorted(spec), sorted(&alone), "{key}");
        assert_eq!(spec["config"], alone["config"], "{key}");
    }
    // All images contain glibc, in one shared layer.
    let glibc = |key: &str| {
        let layers = layers(&all[key].0);
        layers
            .into_iter()
            .find(|(_, paths)| paths.iter().any(|path| path.contains("-glibc-")))
            .map(|(digest, _)| digest)
    };
    assert!(glibc("worker").is_some(), "{all:?}");
    assert_eq!(glibc("web"), glibc("worker"));
    assert_eq!(glibc("web"), glibc("tools"));
    if nix.plugin.is_some() {
        assert_eq!(built(&nix, &images(""), true), all);
    }
}

fn layers_of(spec: &Value) -> Vec<String> {
    layers(spec).into_iter().flat_map(|(_, paths)| paths).collect()
}

/// Results that only the program can make, such as `requestFile`, are an error without its package.
#[test]
fn results_that_need_the_program_require_its_package() {
    let nix = harness!();
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../nix");
    let request = format!(
        "(import {directory}/build-images.nix {{ usePlugin = false; }} {{ web = {{ }}; }}).web.requestFile"
    );
    for expression in [
        request,
        format!("import {directory}/build-image.nix {{ usePlugin = false; }} {{ name = \"web\"; }}"),
    ] {
        let said = nix.try_build(&expression).fails();
        assert!(said.contains("`requestFile`, need the nixply program: pass its package, as in"), "{said}");
    }
}

#[test]
fn lock_file_keeps_layers_in_every_frontend() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    let lock = directory.path().join("nixply.lock.json");
    let given = images(&format!("lock = {};", lock.display()));
    let plan = |update: bool, request: &Path| {
        let mut command = nix.nixply();
        command.args(["plan", "--images", "--json", "--lock"]).arg(&lock).arg(request);
        if update {
            command.arg("--update");
        }
        run(&mut command)
    };
    let request = nix.build(&format!("(buildImages false {}).web.requestFile", images("")));
    let missing = plan(false, &request);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    let way_out =
        format!("there is no lock file {0}; create it with nixply plan --lock {0} --update", lock.display());
    assert!(missing.stderr.contains(&way_out), "{}", missing.stderr);
    let planned: Value = serde_json::from_str(&plan(true, &request).ok()).unwrap();
    let text = fs::read_to_string(&lock).unwrap();
    // The same images again yield the same file.
    plan(true, &request).ok();
    assert_eq!(fs::read_to_string(&lock).unwrap(), text);
    // A link is not replaced by a file.
    let real = directory.path().join("real.json");
    fs::rename(&lock, &real).unwrap();
    fs::write(&real, "").unwrap();
    std::os::unix::fs::symlink("real.json", &lock).unwrap();
    assert!(plan(true, &request).fails().contains("nixply.lock.json is empty"));
    fs::remove_file(&real).unwrap();
    fs::write(&real, &text).unwrap();
    let mut changed: Value = serde_json::from_str(&text).unwrap();
    changed["images"]["web"] = 1.into();
    fs::write(&real, changed.to_string()).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    plan(true, &request).ok();
    assert!(fs::symlink_metadata(&lock).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
    let again: Value = serde_json::from_str(&fs::read_to_string(&real).unwrap()).unwrap();
    assert_eq!(again["images"], serde_json::from_str::<Value>(&text).unwrap()["images"]);
    // A dangling link is not replaced either.
    fs::remove_file(&real).unwrap();
    plan(true, &request).ok();
    assert_eq!(fs::read_to_string(&real).unwrap(), text);
    assert!(fs::symlink_metadata(&lock).unwrap().is_symlink());
    fs::remove_file(&lock).unwrap();
    fs::write(&lock, &text).unwrap();

    let all = built(&nix, &given, false);
    for (key, (spec, _)) in &all {
        let of_plan = planned[key].as_array().unwrap().iter().map(|layer| {
            let paths = layer["paths"].as_array().unwrap();
            paths.iter().map(|path| path.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        });
        let of_spec = layers(spec).into_iter().map(|(_, paths)| paths);
        assert_eq!(of_spec.collect::<Vec<_>>(), of_plan.collect::<Vec<_>>(), "{key}");
    }
    if nix.plugin.is_some() {
        assert_eq!(built(&nix, &given, true), all);
    }
    // An image on its own has the same layers as in the fleet.
    let web = nix.build(&format!("buildImage ({{ name = \"web\"; }} // ({given}).web)"));
    let web: Value = serde_json::from_str(&fs::read_to_string(web).unwrap()).unwrap();
    assert_eq!(web["layers"], all["web"].0["layers"]);

    let request = nix.build(&format!("(buildImage ({{ name = \"web\"; }} // ({given}).web)).requestFile"));
    let alone = run(nix.nixply().args(["plan", "--json", "--lock"]).arg(&lock).arg(&request)).ok();
    assert_eq!(serde_json::from_str::<Value>(&alone).unwrap(), planned["web"]);

    let built_alone = run(nix.nixply().args(["build", "--quiet", "--lock"]).arg(&lock).arg(&request)).ok();
    let built_alone: Value = serde_json::from_str(&built_alone).unwrap();
    assert_eq!(built_alone["layers"], all["web"].0["layers"]);
    let explain = |image: &Path| {
        run(nix.nixply().args(["explain", "--format", "json", "--lock"]).arg(&lock).arg(image).arg("glibc"))
    };
    let explained: Value = serde_json::from_str(&explain(&request).ok()).unwrap();
    let of_plan = planned["web"].as_array().unwrap();
    let glibc = of_plan.iter().position(|layer| layer["paths"].to_string().contains("-glibc-")).unwrap();
    assert_eq!(explained["layers"][0]["layer"], glibc + 1, "{explained}");
    let spec = directory.path().join("image.json");
    fs::write(&spec, web.to_string()).unwrap();
    assert!(explain(&spec).fails().contains("--lock needs a request"));
    let size = ["plan", "--strategy", "size", "--update", "--lock"];
    let size = run(nix.nixply().args(size).arg(&lock).arg(&request)).fails();
    assert!(size.contains("this update would remove team/worker, tools from the lock file"), "{size}");
    let size =
        run(nix.nixply().args(["build", "--strategy", "size", "--lock"]).arg(&lock).arg(&request)).fails();
    assert!(
        size.contains(
            "lock is not valid: it requires strategy \"min-churn\", got \"size\": remove one of the two"
        ),
        "{size}"
    );

    // A layer with a lock file does not get nix2container's default strategy.
    let layer = format!("deps = [ pkgs.hello ]; lock = {{ file = {}; image = \"web\"; }};", lock.display());
    let layer = nix.build(&format!("(drop_in false).nix2container.buildLayer {{ {layer} }}"));
    let layer: Value = serde_json::from_str(&fs::read_to_string(layer.join("layers.json")).unwrap()).unwrap();
    assert_eq!(layer.as_array().unwrap().len(), 1);

    // If an image gets new paths, all other paths keep their layers.
    let more = given.replace(
        "copyToRoot = [ pkgs.coreutils ];",
        "copyToRoot = [ pkgs.coreutils ]; layers = [ { deps = [ pkgs.zlib ]; strategy = \"single\"; } ];",
    );
    let more = built(&nix, &more, false);
    assert_eq!(more["web"], all["web"]);

    // An image that the lock file does not contain.
    let other = nix.try_build(&format!("buildImage ({{ name = \"other\"; }} // ({given}).web)"));
    assert!(
        other.stderr.contains("the lock file has no image \"other\", only team/worker, tools, web"),
        "{}",
        other.stderr
    );
}
