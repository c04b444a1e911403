//! The program under the name `skopeo` runs the real skopeo, and also accepts `nix:IMAGE.json` as a source.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use nixply_tests::engines::{
    Directory, Docker, Engine, Image, Podman, Registry, as_root, json, sha256, text, texts, unique, validate,
};
use nixply_tests::skopeo::{SkopeoLink, source};
use nixply_tests::{Nix, Output, harness, needs, run};
use serde_json::Value;

/// Builds an image with two unique layers. skopeo would replace known layers by blobs with another compression
/// that it has seen in the registry.
fn new_image<'n>(nix: &'n Nix, codec: &str) -> Image<'n> {
    let arguments = format!(
        r#"{{
            name = "skopeo/new";
            config.Env = [ "FILE=${{builtins.toFile "upper" "{}"}}" ];
            layers = [ {{ deps = [ (builtins.toFile "lower" "{}") ]; }} ];
            compression = "{codec}";
        }}"#,
        unique("upper"),
        unique("lower"),
    );
    Image::build(nix, "", &arguments)
}

fn hello<'n>(nix: &'n Nix, codec: &str) -> Image<'n> {
    let arguments = format!(
        r#"{{
            name = "skopeo/hello";
            config.Entrypoint = [ "${{pkgs.hello}}/bin/hello" "--greeting" "well met" ];
            maxLayers = 3; compression = "{codec}";
        }}"#
    );
    Image::build(nix, "", &arguments)
}

fn manifest(registry: &Registry, repository: &str, tag: &str) -> Value {
    json(std::str::from_utf8(&registry.get(repository, "manifests", tag)).unwrap())
}

fn digests(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| text(&layer["digest"]).to_owned()).collect()
}

/// Returns the lines of skopeo's debug log about requests with these verbs and with `of` in the URL.
fn requests<'l>(log: &'l str, verbs: &[&str], of: &str) -> Vec<&'l str> {
    let asks =
        |line: &&str| verbs.iter().any(|verb| line.contains(&format!("{verb} http")) && line.contains(of));
    log.lines().filter(asks).collect()
}

/// The blobs in the registry equal those that nixply packs, for every codec.
#[test]
fn blobs_reach_a_registry_unchanged() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let link = SkopeoLink::new(&nix);
    for (recorded, flags, codec) in [
        ("none", &[][..], "gzip:6"),
        ("none", &["--dest-compress-level", "9"], "gzip:9"),
        ("none", &["--dest-compress-format", "zstd"], "zstd:3"),
        ("none", &["--dest-compress-format=zstd", "--dest-compress-level=7"], "zstd:7"),
        ("zstd:5", &[], "zstd:5"),
        ("zstd:5", &["--dest-compress-format", "zstd"], "zstd:5"),
        ("zstd:5", &["--dest-compress-format", "gzip"], "gzip:6"),
        // A source needs no TLS verification and no login, so these flags have no effect.
        ("gzip:2", &["--src-tls-verify=true", "--src-creds", "nix:a"], "gzip:2"),
    ] {
        let image = new_image(&nix, recorded);
        let repository = unique("-skopeo");
        let to = registry.reference(&repository, "t");
        let mut copy = link.copy(&image.spec, &["--dest-tls-verify=false"]);
        run(copy.args(flags).arg(to)).ok();
        let manifest = manifest(&registry, &repository, "t");
        assert_eq!(text(&manifest["config"]["digest"]), image.id(), "{recorded} {flags:?}");
        let directory = Directory::new();
        image.layout(&directory.join("own"), "t", Some(codec));
        let own = validate(&directory.join("own")).unwrap().remove(0);
        let own: Vec<String> = own.layers.into_iter().map(|layer| layer.digest).collect();
        assert_eq!(own.len(), 2);
        assert_eq!(digests(&manifest), own, "{recorded} {flags:?}");
        for digest in digests(&manifest) {
            assert_eq!(sha256(&registry.get(&repository, "blobs", &digest)), digest);
        }
    }
}

/// Copies to the same registry twice, under two tags.
#[test]
fn blobs_in_the_registry_are_neither_sent_nor_read() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let link = SkopeoLink::new(&nix);
    for codec in ["none", "zstd"] {
        let image = new_image(&nix, codec);
        let repository = unique("-again");
        let copy = |tag: &str| {
            let to = registry.reference(&repository, tag);
            let output = run(link.copy(&image.spec, &["--debug", "--dest-tls-verify=false"]).arg(to));
            let log = output.stderr.clone();
            output.ok();
            let uploads = requests(&log, &["POST", "PATCH", "PUT"], "/blobs/uploads/").len();
            let here = format!("http://{}", registry.address);
            let gets = requests(&log, &["GET"], "/blobs/sha256:").into_iter();
            (uploads, gets.filter(|line| !line.contains(&here)).count())
        };
        let (uploads, reads) = copy("one");
        assert!(uploads >= 3, "{codec}: {uploads}");
        assert_eq!(reads, 3, "{codec}");
        // skopeo reads a config to identify the image, even if it does not send it.
        assert_eq!(copy("two"), (0, 1), "{codec}");
        let tags = ["one", "two"].map(|tag| registry.get(&repository, "manifests", tag));
        assert_eq!(tags[0], tags[1]);
    }
}

/// With `NIXPLY_PROGRESS=bars`, a copy prints a summary, although the real skopeo prints nothing here.
#[test]
fn summary_is_printed_on_request() {
    let nix = harness!();
    let link = SkopeoLink::new(&nix);
    for codec in ["none", "zstd"] {
        let (image, directory) = (new_image(&nix, codec), Directory::new());
        let layers = image.inspect()["layers"].as_array().unwrap().len();
        let copy = || {
            let mut command = link.copy(&image.spec, &[]);
            command.env("NIXPLY_PROGRESS", "bars").arg(format!("oci:{}:t", directory.path().display()));
            let output = run(&mut command);
            assert_eq!((output.code, &*output.stdout), (Some(0), ""), "{}", output.stderr);
            output.stderr
        };
        let first = copy();
        let last = first.lines().last().unwrap();
        assert!(last.contains(&format!("; {layers} sent (")) && !last.contains("there"), "{codec}: {first}");
        let again = copy();
        assert!(again.ends_with(&format!("; none sent, {layers} already there\n")), "{codec}: {again}");
    }
}

/// A plain layer stays plain where skopeo keeps layers unchanged, and is compressed where skopeo compresses.
#[test]
fn directories_match_skopeos_own_copy_of_plain_tar() {
    let nix = harness!();
    let link = SkopeoLink::new(&nix);
    let image = hello(&nix, "none");
    let directory = Directory::new();
    let to = |kind: &str, name: &str| format!("{kind}:{}", directory.join(name).display());
    run(&mut link.copy(&image.spec, &[&to("dir", "dir")])).ok();
    let manifest = json(&fs::read_to_string(directory.join("dir/manifest.json")).unwrap());
    assert_eq!(digests(&manifest), image.diff_ids());
    for diff_id in image.diff_ids() {
        let tar = fs::read(directory.join("dir").join(&diff_id[7..])).unwrap();
        assert_eq!(sha256(&tar), diff_id);
    }
    for (name, flags, codec) in [
        ("oci", &[][..], "gzip"),
        ("zstd", &["--dest-compress-format", "zstd"], "zstd"),
        ("plain", &["--dest-oci-accept-uncompressed-layers"], "none"),
    ] {
        let tagged = format!("{}:t", to("oci", name));
        run(link.copy(&image.spec, &[&tagged]).args(flags)).ok();
        let found = validate(&directory.join(name)).unwrap().remove(0);
        assert_eq!((found.id, found.tag.as_str()), (image.id(), "t"), "{name}");
        assert!(found.layers.iter().all(|layer| layer.codec == codec), "{name}: {:?}", found.layers);
    }
    // Docker's manifests do not support zstd.
    let image = hello(&nix, "zstd");
    run(&mut link.copy(&image.spec, &[&to("dir", "v2"), "--format", "v2s2"])).ok();
    let manifest = json(&fs::read_to_string(directory.join("v2/manifest.json")).unwrap());
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(digests(&manifest), image.diff_ids());
}

#[test]
fn nix2container_100_image_pushed_by_unpatched_skopeo_runs_in_podman() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let (link, image, podman) = (SkopeoLink::new(&nix), hello(&nix, "none"), Podman::new());
    let reference = registry.reference(&unique("-podman"), "t");
    run(&mut link.copy(&image.spec, &[&reference, "--dest-tls-verify=false"])).ok();
    let id = podman.pull(&reference);
    assert_eq!(id, image.id()[7..]);
    assert_eq!(podman.run(&[&id]).ok(), "well met");
}

/// Copies directly to the storage of podman and Docker.
#[test]
fn images_copied_to_engines_run() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let docker = Docker::new(needs!("NIXPLY_TEST_DOCKER"), registry);
    let link = SkopeoLink::new(&nix);
    for codec in ["none", "zstd"] {
        let image = hello(&nix, codec);
        let podman = Podman::new();
        let mut copy = as_root(link.program());
        link.set_up(&mut copy);
        copy.env("CONTAINERS_STORAGE_CONF", podman.storage_conf());
        copy.args(["--insecure-policy", "copy"]).arg(source(&image.spec));
        run(copy.arg("containers-storage:localhost/stored:t")).ok();
        assert_eq!(podman.inspect("localhost/stored:t")["Id"], &image.id()[7..], "{codec}");
        assert_eq!(podman.run(&["localhost/stored:t"]).ok(), "well met", "{codec}");

        let name = format!("{}:t", unique("-daemon"));
        docker.owns(&name);
        let to = format!("docker-daemon:{name}");
        run(&mut link.copy(&image.spec, &["--dest-daemon-host", docker.host(), &to])).ok();
        assert_eq!(docker.inspect(&name)["Id"], image.id().as_str(), "{codec}");
        assert_eq!(docker.run(&[&name]).ok(), "well met", "{codec}");
    }
}

/// The image is in no registry yet, so the output has no name, registry or tags.
#[test]
fn inspect_does_not_show_the_internal_registry() {
    let nix = harness!();
    let link = SkopeoLink::new(&nix);
    for codec in ["none", "zstd"] {
        let image = hello(&nix, codec);
        let temporary = Directory::new();
        let inspect = |flags: &[&str]| {
            let mut command = link.command(&["inspect"]);
            command.env("TMPDIR", temporary.path()).args(flags).arg(source(&image.spec));
            run(&mut command)
        };
        let known = image.inspect();
        let seen = inspect(&[]);
        assert_eq!(seen.stderr, "");
        assert!(!seen.stdout.contains("127.0.0.1") && !seen.stdout.contains("latest"), "{}", seen.stdout);
        let seen = json(&seen.ok());
        assert!(seen.get("Name").is_none_or(|name| name == ""), "{seen}");
        assert_eq!(seen["RepoTags"], serde_json::json!([]));
        assert_eq!(seen["Digest"], known["manifestDigest"]);
        assert_eq!((&seen["Os"], &seen["Architecture"]), (&"linux".into(), &"amd64".into()));
        let layers = known["layers"].as_array().unwrap();
        assert_eq!(
            texts(&seen["Layers"]),
            layers.iter().map(|layer| text(&layer["digest"])).collect::<Vec<_>>()
        );
        assert_eq!(sha256(inspect(&["--raw"]).stdout.as_bytes()), text(&known["manifestDigest"]));
        assert_eq!(sha256(inspect(&["--raw", "--config"]).stdout.as_bytes()), image.id());
        let config = json(&inspect(&["--config"]).ok());
        assert_eq!(texts(&config["rootfs"]["diff_ids"]), image.diff_ids());
        assert_eq!(inspect(&["--format", "{{.Digest}}"]).ok(), text(&known["manifestDigest"]));
        // A shared blob directory has no effect.
        let elsewhere = Directory::new();
        inspect(&["--shared-blob-dir", &elsewhere.path().display().to_string()]).ok();
        assert_eq!(inspect(&["--nonsense"]).code, Some(1));
        assert_eq!(temporary.path().read_dir().unwrap().count(), 0);
    }
}

#[test]
fn skopeo_layers_writes_plain_tar() {
    let nix = harness!();
    let (link, image, directory) = (SkopeoLink::new(&nix), hello(&nix, "none"), Directory::new());
    let [first, ..] = &image.diff_ids()[..] else { panic!("the image has layers") };
    let mut command = link.command(&["layers"]);
    run(command.current_dir(directory.path()).arg(source(&image.spec)).arg(first)).ok();
    let made = directory.path().read_dir().unwrap().next().unwrap().unwrap().path();
    assert_eq!(sha256(&fs::read(made.join(&first[7..])).unwrap()), *first);
}

/// The message names the store path, and skopeo fails.
#[test]
fn damaged_store_path_is_not_copied() {
    let nix = harness!();
    let private = nix.private();
    let function = Image::function(&private);
    for codec in ["none", "zstd"] {
        let body = format!(
            r#"{{ image = {function} {{
                name = "damaged"; compression = "{codec}";
                config.Env = [ "FILE=${{sh "content-{codec}" "echo right > $out"}}" ];
            }}; }}"#
        );
        let file = private.file("image.nix", &body);
        private.build_file(&file, "image", codec).ok();
        let ends = format!("-content-{codec}");
        let content = private.listing().into_iter().find(|name| name.ends_with(&ends)).unwrap();
        let content = private.store_dir().join(content);
        run(Command::new("chmod").arg("u+w").arg(&content)).ok();
        fs::write(&content, "wrong\n").unwrap();
        let (link, directory) = (SkopeoLink::new(&private), Directory::new());
        let to = format!("oci:{}:t", directory.join("layout").display());
        let mut command = link.copy(&private.directory().join(codec), &[&to]);
        // The cache would still have the original content.
        let output = run(command.env("NIXPLY_CACHE_DIR", directory.join("cache")));
        assert_eq!(output.code, Some(1), "{codec}: {output:?}");
        let error = output.fails();
        let words = "error: layer 1 no longer has the content that its image spec records";
        assert!(error.contains(words) && error.contains(&*content.to_string_lossy()), "{codec}: {error}");
        assert!(validate(&directory.join("layout")).is_err(), "{codec}");
    }
}

/// The name `nix2container` selects its command line.
#[test]
fn program_named_nix2container_has_its_command_line() {
    let nix = harness!();
    let (link, image, directory) = (SkopeoLink::new(&nix), hello(&nix, "none"), Directory::new());
    let program = directory.join("nix2container");
    symlink(&nix.cli, &program).unwrap();
    let dir = directory.join("dir").display().to_string();
    run(&mut link.copy(&image.spec, &[&format!("dir:{dir}")])).ok();
    let import = |command: &mut Command, name: &str| {
        let output: Output =
            run(command.args(["image-from-dir", &*directory.join(name).to_string_lossy(), &dir]));
        output.ok();
        fs::read(directory.join(name)).unwrap()
    };
    let named = import(&mut Command::new(&program), "named.json");
    assert_eq!(named, import(Command::new(&nix.cli).arg("n2c"), "n2c.json"));
    assert!(run(Command::new(&program).arg("build")).fails().contains("unrecognized subcommand"));
}
