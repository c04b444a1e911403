//! Descriptions of images and layers: specs without references to store paths, which a binary cache sends without
//! the closure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixply_tests::{Nix, Private, harness, plugin_harness, run};
use serde_json::Value;

/// An image whose config and layers name store paths.
const IMAGE: &str = r#"{
    name = "team/described";
    config.Env = [ "SHELL=${pkgs.bash}/bin/bash" ];
    labels.${builtins.unsafeDiscardStringContext "${pkgs.bash}"} = "a store path in a key";
    copyToRoot = [ pkgs.hello ];
    maxLayers = 3;
    compression = "zstd:1";
}"#;

/// Returns the references of a store path, as Nix knows them.
#[track_caller]
fn references(nix: &Nix, path: &Path) -> String {
    run(nix.command("nix-store").args(["--query", "--references"]).arg(path)).ok()
}

/// Checks that a description has no references, and the same JSON document as the spec. Returns its text.
#[track_caller]
fn check(nix: &Nix, spec: &Path, description: &Path) -> String {
    assert_eq!(references(nix, description), "", "{}", description.display());
    assert_ne!(references(nix, spec), "", "{}", spec.display());
    let [spec, text] = [spec, description].map(|file| fs::read_to_string(file).unwrap());
    assert_ne!(text, spec);
    let [read, expected] = [&text, &spec].map(|text| serde_json::from_str::<Value>(text).unwrap());
    assert_eq!(read, expected);
    text
}

#[test]
fn every_frontend_makes_the_same_description() {
    let nix = harness!();
    let spec = nix.build(&format!("buildImage {IMAGE}"));
    let description = nix.build(&format!("(buildImage {IMAGE}).description"));
    assert!(description.to_string_lossy().ends_with("-image-described.json-description"));
    let text = check(&nix, &spec, &description);
    assert!(text.contains("\"key\": ") && text.contains("\"compression\": \"zstd:1\""), "{text}");

    // Commands read it like the spec.
    let inspect = |file: &Path| run(nix.nixply().args(["inspect", "--json"]).arg(file)).ok();
    assert_eq!(inspect(&description), inspect(&spec));

    let directory = tempfile::tempdir().unwrap();
    let [request, image, written] =
        ["request.json", "image.json", "description.json"].map(|name| directory.path().join(name));
    let fields = format!(
        "removeAttrs ({IMAGE}) [ \"name\" ] // {{ configRoots = [ pkgs.bash ]; arch = \
         {{ x86_64-linux = \"amd64\"; aarch64-linux = \"arm64\"; }}.${{builtins.currentSystem}}; }}"
    );
    fs::write(&request, nix.eval(&fields).to_string()).unwrap();
    let mut command = nix.nixply();
    command.args(["build", "--no-cache", "--quiet", "--description"]).arg(&written).arg("-o").arg(&image);
    run(command.arg(&request)).ok();
    assert_eq!(fs::read(&image).unwrap(), fs::read(&spec).unwrap());
    assert_eq!(fs::read_to_string(&written).unwrap(), text);

    let mut others = vec![format!("(drop_in false).nix2container.buildImage (STRATEGY // {IMAGE})")];
    if nix.plugin.is_some() {
        others.push(format!("(drop_in true).nix2container.buildImage (STRATEGY // {IMAGE})"));
        others.push(format!("builtins.nixplyImage {IMAGE}"));
    }
    if nix.has_builtin_builders() && nix.plugin.is_some() {
        others.push(format!(
            "import {}/nix/build-image.nix {{ builder = \"builtin:nixply\"; args = [ ]; usePlugin = false; }} {IMAGE}",
            Nix::repository().display()
        ));
    }
    for image in others {
        let image = image.replace("STRATEGY", "{ strategy = \"min-churn\"; }");
        let built = nix.build(&format!("({image}).description"));
        assert_eq!(check(&nix, &spec, &built), text, "{image}");
        // The attribute and the output of the derivation have the same content.
        let named = nix.eval(&format!("builtins.readFile ({image}).description"));
        assert_eq!(named, text.as_str(), "{image}");
    }
}

/// Nix adds the output's name to a link, except for `out`.
#[test]
fn nix_build_builds_the_requested_output() {
    let nix = harness!().private();
    let file = nix.file("image.nix", &format!("rec {{ {} }}", two_images()));
    for (attribute, link, name) in [
        ("far", "1", "-image-far.json"),
        ("far.description", "2-description", "-image-far.json-description"),
        ("fleet.description", "3-description", "-images.json-description"),
        (
            "fleet.description.description",
            "4-description=description",
            "-images.json-description=description",
        ),
        ("fleet.web", "5-web", "-images.json-web"),
        ("fleet.web.description", "6-web=description", "-images.json-web=description"),
    ] {
        let number = &link[..1];
        nix.build_file(&file, attribute, number).ok();
        let names = fs::read_dir(nix.directory()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with(number)).collect::<Vec<_>>(), [link], "{attribute}");
        let target = fs::read_link(nix.directory().join(link)).unwrap();
        assert!(target.to_string_lossy().ends_with(name), "{attribute}: {}", target.display());
    }
}

#[test]
fn each_image_of_a_fleet_has_a_description() {
    let nix = harness!();
    // An image may be called description.
    let images = r#"{
        description = { copyToRoot = pkgs.hello; compression = "zstd:1"; };
        web = { copyToRoot = [ pkgs.hello pkgs.zlib ]; maxLayers = 3; compression = "gzip:1"; };
    }"#;
    for name in ["description", "web"] {
        let of = |plugin: bool, attribute: &str| format!("(buildImages {plugin} {images}).{name}{attribute}");
        let spec = nix.build(&of(false, ""));
        let text = check(&nix, &spec, &nix.build(&of(false, ".description")));
        if nix.plugin.is_some() {
            assert_eq!(check(&nix, &spec, &nix.build(&of(true, ".description"))), text, "{name}");
        }
    }
}

#[test]
fn layers_have_a_description() {
    let nix = harness!();
    for more in ["", "reproducible = false;"] {
        let layer = format!("(drop_in false).nix2container.buildLayer {{ deps = [ pkgs.hello ]; {more} }}");
        let layers = nix.build(&layer);
        let description = nix.build(&format!("({layer}).description"));
        check_layers(&nix, &layers, &description);
    }
}

#[track_caller]
fn check_layers(nix: &Nix, layers: &Path, description: &Path) {
    assert_eq!(references(nix, description), "");
    let read = |file: &Path| serde_json::from_str::<Value>(&fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(read(description), read(&layers.join("layers.json")));
}

/// The name of the description's store path would be too long for Nix.
#[test]
fn image_with_a_long_name_is_built_without_a_description() {
    let nix = harness!();
    let image = |length: usize| format!("{{ name = \"{}\"; copyToRoot = pkgs.hello; }}", "a".repeat(length));
    let mut frontends = vec!["buildImage"];
    if nix.plugin.is_some() {
        frontends.push("builtins.nixplyImage");
    }
    for frontend in frontends {
        for (length, outputs) in [(188, vec!["out", "description"]), (189, vec!["out"])] {
            let image = format!("({frontend} {})", image(length));
            assert_eq!(nix.eval(&format!("{image}.outputs")), Value::from(outputs), "{frontend} {length}");
            nix.build(&image);
        }
    }
}

/// Attributes of a file: an image, and a fleet. They need no package set.
fn two_images() -> String {
    format!(
        r#"tree = sh "tree" "mkdir $out; echo a file > $out/file";
           far = buildImage {{ name = "far"; copyToRoot = tree; config.Cmd = [ "${{tree}}/file" ]; compression = "zstd:1"; }};
           fleet = import {}/nix/build-images.nix {{
             inherit (far) builder;
             usePlugin = false;
           }} {{
             web = {{ copyToRoot = tree; compression = "zstd:1"; }};
             description.copyToRoot = tree;
           }};"#,
        Nix::repository().display()
    )
}

/// Two machines that share only a binary cache: one builds, the other gets the description without a path of the
/// image.
#[test]
fn binary_cache_provides_the_description_without_the_closure() {
    let nix = harness!().private();
    let file = nix.file("image.nix", &format!("rec {{ {} }}", two_images()));
    let cache = tempfile::tempdir().unwrap();
    let url = format!("file://{}", cache.path().display());

    let mut expected = Vec::new();
    for attribute in ["far", "fleet.web"] {
        let [spec, description] = ["", ".description"].map(|output| {
            let mut build = nix.bare_command("nix-build", "");
            build.arg(&file).args(["--no-out-link", "--attr", &format!("{attribute}{output}")]);
            PathBuf::from(run(&mut build).ok())
        });
        let text = check(&nix, &spec, &description);
        run(nix.bare_command("nix", "").args(["copy", "--to", &url]).arg(&description)).ok();
        expected.push((attribute, spec, description, text));
    }
    let sent: u64 = files(cache.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(sent < 20_000, "{sent} bytes");

    let config = format!("substituters = {url}\nrequire-sigs = false\n");
    for (attribute, spec, description, text) in &expected {
        empty(&nix);
        let mut instantiate = nix.bare_command("nix-instantiate", &config);
        let drv = run(instantiate.arg(&file).args(["--attr", &format!("{attribute}.description")])).ok();
        let (drv, output) = drv.split_once('!').unwrap();
        let output = format!("{drv}!{output}");
        let realised = run(nix.bare_command("nix-store", &config).args(["--realise", &output])).ok();
        assert_eq!(Path::new(&realised), description, "{attribute}");
        assert_eq!(fs::read_to_string(description).unwrap(), *text);
        let mut build = nix.bare_command("nix", &config);
        build.args(["build", "--no-link", "-f"]).arg(&file).arg(format!("{attribute}.description"));
        run(&mut build).ok();
        // Neither the image nor its content is there.
        assert!(!spec.exists(), "{}", spec.display());
        let there = nix.listing();
        assert!(
            !there.iter().any(|name| name.ends_with("-tree") || name.ends_with("config.json")),
            "{there:?}"
        );
        let inspected = run(nix.nixply().args(["inspect", "--json"]).arg(description)).ok();
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        assert!(inspected["manifestDigest"].is_string(), "{inspected}");
    }
}

/// The plugin packs while it evaluates. Its description gets to other machines as a path.
#[test]
fn binary_cache_provides_the_description_of_the_plugin() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "image.nix",
        r#"builtins.nixplyImage {
             name = "far"; compression = "zstd:1"; copyToRoot = sh "tree" "mkdir $out; echo a file > $out/file";
           }"#,
    );
    let text =
        |attribute: &str| -> String { serde_json::from_str(&nix.eval_file(&file, attribute).ok()).unwrap() };
    let [spec, description] =
        ["outPath", "description.outPath"].map(|attribute| PathBuf::from(text(attribute)));
    let content = check(&nix, &spec, &description);
    let cache = tempfile::tempdir().unwrap();
    let url = format!("file://{}", cache.path().display());
    run(nix.bare_command("nix", "").args(["copy", "--to", &url]).arg(&description)).ok();
    empty(&nix);
    let config = format!("substituters = {url}\nrequire-sigs = false\n");
    run(nix.bare_command("nix-store", &config).arg("--realise").arg(&description)).ok();
    assert_eq!(fs::read_to_string(&description).unwrap(), content);
    assert_eq!(nix.listing(), [description.file_name().unwrap().to_str().unwrap()]);
}

/// Deletes the store and its database, so that the directory is the store of a new machine.
fn empty(nix: &Private) {
    let directories = ["store", "var", "cache"].map(|name| nix.directory().join(name));
    for directory in directories.iter().filter(|directory| directory.exists()) {
        run(Command::new("chmod").args(["-R", "u+w"]).arg(directory)).ok();
        fs::remove_dir_all(directory).unwrap();
    }
}

/// Returns all files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
