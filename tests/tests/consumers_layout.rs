//! OCI layouts, read by a validator, skopeo and tar.

use std::fs;
use std::path::Path;
use std::process::Command;

use nixply_packer::Codec;
use nixply_tests::engines::{Directory, Image, Valid, json, sha256, skopeo, text, texts, validate};
use nixply_tests::{harness, run};

const HELLO: &str = r#"{
    name = "Hello";
    config = { entrypoint = [ "${pkgs.hello}/bin/hello" ]; Env = [ "A=<&>" ]; };
    maxLayers = 3;
    created = "2024-05-13T09:31:10Z";
}"#;

/// Returns the names of all codecs.
fn codecs() -> impl Iterator<Item = &'static str> {
    Codec::all().map(Codec::name)
}

#[track_caller]
fn one(layout: &Path) -> Valid {
    let mut images = validate(layout).unwrap();
    assert_eq!(images.len(), 1);
    images.pop().unwrap()
}

#[test]
fn layouts_are_valid() {
    let nix = harness!();
    let image = Image::build(&nix, "", HELLO);
    let directory = Directory::new();
    let all = directory.join("all");
    for codec in codecs() {
        let layout = directory.join(codec);
        let manifest = image.layout(&layout, "t", Some(codec));
        let valid = one(&layout);
        assert_eq!((&valid.tag[..], &valid.manifest, &valid.id), ("t", &manifest, &image.id()), "{codec}");
        let diff_ids: Vec<&str> = valid.layers.iter().map(|layer| &layer.diff_id[..]).collect();
        assert_eq!(diff_ids, image.diff_ids(), "{codec}");
        assert_eq!(diff_ids.len(), 2, "one layer for glibc, one for hello");
        let index = json(&fs::read_to_string(layout.join("index.json")).unwrap());
        assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
        assert!(valid.layers.iter().all(|layer| layer.codec == codec), "{codec}");
        assert_eq!(
            image.layout(&all, codec, Some(codec)),
            manifest,
            "the digest must not depend on the directory"
        );
    }
    let tags: Vec<String> = validate(&all).unwrap().into_iter().map(|image| image.tag).collect();
    assert_eq!(tags, codecs().collect::<Vec<_>>(), "the layout must have all images");
    assert_eq!(image.layout(&all, "gzip", Some("gzip")), one(&directory.join("gzip")).manifest);
    assert_eq!(validate(&all).unwrap().len(), tags.len(), "writing an image again must add none");
}

/// A layout has the compression and the digests that the spec records.
#[test]
fn compressed_spec_predicts_the_layout() {
    let nix = harness!();
    for codec in codecs().filter(|codec| *codec != "none").chain(["zstd:9"]) {
        let image = Image::build(
            &nix,
            "",
            &HELLO.replace("maxLayers", &format!("compression = \"{codec}\"; maxLayers")),
        );
        let directory = Directory::new();
        let layout = directory.join("layout");
        let manifest = image.layout(&layout, "t", None);
        let (valid, said) = (one(&layout), image.inspect());
        assert_eq!(said["manifestDigest"], manifest.as_str(), "{codec}");
        let digests: Vec<&str> = valid.layers.iter().map(|layer| &layer.digest[..]).collect();
        let foretold = said["layers"].as_array().unwrap().iter().map(|layer| text(&layer["digest"]));
        assert_eq!(digests, foretold.collect::<Vec<_>>(), "{codec}");
        assert!(valid.layers.iter().all(|layer| codec.starts_with(&layer.codec)), "{codec}");
    }
}

/// Tests the validator itself, because a validator that accepts everything would prove nothing.
#[test]
fn validator_detects_defects() {
    let nix = harness!();
    let image = Image::build(&nix, "", HELLO);
    let directory = Directory::new();
    let layout = directory.join("layout");
    image.layout(&layout, "t", Some("gzip"));
    let valid = one(&layout);
    let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    let refuses = |why: &str| {
        let error = validate(&layout).unwrap_err();
        assert!(error.contains(why), "{error:?} instead of {why:?}");
    };

    let layer = blob(&valid.layers[1].digest);
    let bytes = fs::read(&layer).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    fs::write(&layer, &flipped).unwrap();
    refuses("digest of");
    fs::remove_file(&layer).unwrap();
    refuses("No such file");
    fs::write(&layer, &bytes).unwrap();
    fs::write(blob(&sha256(b"stray")), "stray").unwrap();
    refuses("belongs to no image");
    fs::remove_file(blob(&sha256(b"stray"))).unwrap();

    // Wrong documents with correct digests: `put` writes a document and returns the document above with its new digest and size.
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    let manifest = fs::read_to_string(blob(&valid.manifest)).unwrap();
    let config = fs::read_to_string(blob(&valid.id)).unwrap();
    let put = |old: &str, new: &str, within: &str| {
        fs::write(blob(&sha256(new.as_bytes())), new).unwrap();
        let lengths = (format!("\"size\":{}", old.len()), format!("\"size\":{}", new.len()));
        within.replace(&sha256(old.as_bytes()), &sha256(new.as_bytes())).replace(&lengths.0, &lengths.1)
    };
    let wrong_manifest =
        |new: &str| fs::write(layout.join("index.json"), put(&manifest, new, &index)).unwrap();
    wrong_manifest(&manifest.replace("tar+gzip", "tar"));
    refuses("media type of");
    wrong_manifest(&manifest.replace(&format!("\"size\":{}", bytes.len()), "\"size\":1"));
    refuses("size of");
    wrong_manifest(&put(
        &config,
        &config.replace(&valid.layers[0].diff_id, &valid.layers[1].diff_id),
        &manifest,
    ));
    refuses("diff_id of");
    let first = format!("\"{}\",", valid.layers[0].diff_id);
    wrong_manifest(&put(&config, &config.replace(&first, ""), &manifest));
    refuses("1 diff_ids, but 2 layers");
    fs::write(layout.join("index.json"), &index).unwrap();
    refuses("belongs to no image");
}

#[test]
fn skopeo_reads_layouts() {
    let nix = harness!();
    let image = Image::build(&nix, "", HELLO);
    let directory = Directory::new();
    let layout = directory.join("layout");
    for codec in codecs() {
        let digest = image.layout(&layout, codec, Some(codec));
        let reference = format!("oci:{}:{codec}", layout.display());
        // `ok` trims line ends, and the manifest has none.
        let manifest = run(&mut skopeo(&["inspect", "--raw", &reference])).ok();
        assert_eq!(sha256(manifest.as_bytes()), digest, "{codec}");
        let config = run(&mut skopeo(&["inspect", "--raw", "--config", &reference])).ok();
        assert_eq!(sha256(config.as_bytes()), image.id(), "{codec}");
        let config = json(&run(&mut skopeo(&["inspect", "--config", &reference])).ok());
        assert_eq!(texts(&config["rootfs"]["diff_ids"]), image.diff_ids());
        assert_eq!(texts(&config["config"]["Env"]), ["A=<&>"]);
        assert!(texts(&config["config"]["Entrypoint"])[0].ends_with("/bin/hello"));

        let summary = json(&run(&mut skopeo(&["inspect", &reference])).ok());
        assert_eq!(summary["Digest"], digest.as_str(), "{codec}");
        assert_eq!(summary["Created"], "2024-05-13T09:31:10Z", "{codec}");
        assert_eq!((&summary["Os"], summary["Env"].to_string()), (&"linux".into(), r#"["A=<&>"]"#.into()));
        let digests: Vec<String> =
            json(&manifest)["layers"].as_array().unwrap().iter().map(|l| text(&l["digest"]).into()).collect();
        assert_eq!(texts(&summary["Layers"]), digests, "{codec}");
    }
}

/// An image that skopeo fetched into a directory can be a base image, with its sizes recorded
/// (nix2container#207).
#[test]
fn nix2container_207_fetched_base_image_has_its_sizes() {
    let nix = harness!();
    let image = Image::build(&nix, "", HELLO);
    let directory = Directory::new();
    let (layout, dir, spec) = (directory.join("layout"), directory.join("dir"), directory.join("image.json"));
    image.layout(&layout, "t", Some("gzip"));
    let (from, to) = (format!("oci:{}:t", layout.display()), format!("dir:{}", dir.display()));
    run(&mut skopeo(&["copy", "--quiet", &from, &to])).ok();
    run(nix.nixply().args(["n2c", "image-from-dir"]).arg(&spec).arg(&dir)).ok();
    let said = json(&run(nix.nixply().args(["inspect", "--json"]).arg(&spec)).ok());
    let layer = |layer: &nixply_tests::engines::Blob| {
        serde_json::json!({
            "digest": layer.digest, "diffId": layer.diff_id, "size": layer.size, "paths": [],
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        })
    };
    let expected: Vec<_> = one(&layout).layers.iter().map(layer).collect();
    assert_eq!(said["layers"], serde_json::Value::from(expected));
    // Writing the image to another layout keeps its blobs.
    let again = directory.join("again");
    let refused = run(nix.nixply().arg("layout").arg(&spec).arg(&again)).fails();
    assert!(refused.contains("hint: pass --allow-outside-store"), "{refused}");
    run(nix.nixply().args(["layout", "--allow-outside-store"]).arg(&spec).arg(&again)).ok();
    assert_eq!(one(&again).layers, one(&layout).layers);
}

/// A layer's archive contains the parent directories of store paths, readable for all users (nix2container#12).
#[test]
fn archives_list_the_parents_of_store_paths() {
    let nix = harness!();
    let image = Image::build(&nix, "", HELLO);
    let hello = nix.build("pkgs.hello");
    let directory = Directory::new();
    for codec in codecs() {
        let layout = directory.join(codec);
        image.layout(&layout, "t", Some(codec));
        let blob = layout.join("blobs").join(one(&layout).layers[1].digest.replace(':', "/"));
        // GNU tar detects the compression.
        let mut tar = Command::new("tar");
        tar.env("TZ", "UTC")
            .args(["--list", "--verbose", "--full-time", "--absolute-names", "--file"])
            .arg(blob);
        let listing = run(&mut tar).ok();
        let lines: Vec<String> =
            listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();

        let mut parents: Vec<String> =
            hello.ancestors().skip(1).map(|parent| parent.display().to_string()).collect();
        parents.reverse();
        for (line, parent) in lines.iter().zip(&parents) {
            assert_eq!(line, &format!("drwxr-xr-x root/root 0 1970-01-01 00:00:01 {parent}"), "{codec}");
        }
        let below = &lines[parents.len()..];
        assert_eq!(below[0], format!("dr-xr-xr-x root/root 0 1970-01-01 00:00:01 {}", hello.display()));
        let size = fs::metadata(hello.join("bin/hello")).unwrap().len();
        let program =
            format!("-r-xr-xr-x root/root {size} 1970-01-01 00:00:01 {}/bin/hello", hello.display());
        assert!(below.contains(&program), "{codec}: {listing}");
        for line in below {
            assert!(
                line.contains(" root/root ") && line.contains(" 1970-01-01 00:00:01 "),
                "{codec}: {line}"
            );
            assert!(line.contains(&format!(" {}", hello.display())), "{codec}: {line}");
        }
    }
}

/// Nix code with `twin`, which makes store paths with different names and equal contents, and a base image with
/// bash and one of these paths.
const TWINS: &str = r#"let
    twin = name: pkgs.runCommand name { } ''
      mkdir -p $out/etc
      echo content > $out/etc/twin
    '';
    base = FUNCTION { name = "base"; layers = [ { deps = [ pkgs.bash ]; } ]; copyToRoot = [ (twin "a") ]; };
in"#;

/// Requests for the same blob share one layer (nix2container#186).
#[test]
fn nix2container_182_187_duplicate_layer_is_stored_once() {
    let nix = harness!();
    let before = TWINS.replace("FUNCTION", Image::function(&nix));
    let directory = Directory::new();
    let image = |arguments: &str, name: &str| {
        let image = Image::build(&nix, &before, arguments);
        let layout = directory.join(name);
        image.layout(&layout, "t", Some("gzip"));
        let valid = one(&layout);
        assert_eq!(valid.config["history"].as_array().unwrap().len(), valid.layers.len(), "{name}");
        valid.layers
    };
    let once = image(r#"{ name = "x"; copyToRoot = [ (twin "a") ]; }"#, "once");
    assert_eq!(once.len(), 1);
    let other = image(r#"{ name = "x"; copyToRoot = [ (twin "b") ]; }"#, "other");
    assert_eq!(once, other, "the layer must not depend on the name of the store path");
    let twice = r#"{
        name = "x";
        layers = [ { copyToRoot = [ (twin "a") ]; } { deps = [ pkgs.hello ]; } { copyToRoot = [ (twin "b") ]; } ];
    }"#;
    let twice = image(twice, "twice");
    assert_eq!((twice.len(), &twice[0]), (2, &once[0]), "one layer for both twins, one for hello");

    let base = image("{ name = \"x\"; fromImage = base; }", "base");
    assert_eq!((base.len(), &base[1]), (2, &once[0]));
    let same = r#"{
        name = "x"; fromImage = base; layers = [ { deps = [ pkgs.bash ]; } ]; copyToRoot = [ (twin "b") ];
    }"#;
    assert_eq!(image(same, "same"), base, "the base image already has the layers of bash and the twin");
    let more = r#"{
        name = "x"; fromImage = base; layers = [ { deps = [ pkgs.bash ]; } { deps = [ pkgs.hello ]; } ];
    }"#;
    let more = image(more, "more");
    assert_eq!((more.len(), &more[..2]), (3, &base[..]), "only the layer of hello must be new");
}

/// A base image keeps its layers, their order and compression; the layers above have their own compression.
#[test]
fn base_layers_come_first_and_unchanged() {
    let nix = harness!();
    let before = format!(
        r#"let base = {} {{
            name = "base"; compression = "gzip"; maxLayers = 4; copyToRoot = [ pkgs.dockerTools.binSh ];
            config = {{ Env = [ "BASE=1" ]; User = "7"; }};
        }}; in"#,
        Image::function(&nix)
    );
    let directory = Directory::new();
    let (below, layout) = (directory.join("base"), directory.join("layout"));
    let base = Image::of(&nix, &format!("{before} base"));
    base.layout(&below, "t", None);
    let top = r#"{
        name = "top"; fromImage = base; compression = "zstd"; config.Cmd = [ "${pkgs.hello}/bin/hello" ];
    }"#;
    let top = Image::build(&nix, &before, top);
    let manifest = top.layout(&layout, "t", None);
    assert_eq!(top.inspect()["manifestDigest"], manifest.as_str());
    let (base, top) = (one(&below), one(&layout));
    assert_eq!(&top.layers[..base.layers.len()], &base.layers[..]);
    let codecs: Vec<&str> = top.layers.iter().map(|layer| layer.codec.as_str()).collect();
    assert_eq!(codecs, ["gzip", "gzip", "gzip", "gzip", "zstd"]);
    assert_eq!(
        top.config["config"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["Cmd"],
        "the base image's config must not be inherited"
    );
}
