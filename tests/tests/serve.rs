//! `nixply serve`: unpatched clients pull images from it as from any registry, and it packs the requested
//! layers.

use std::fs;
use std::path::Path;
use std::sync::Barrier;

use nixply_tests::engines::{
    Directory, Docker, Engine, Image, Podman, Registry, Served, json, sha256, skopeo, text, unique, validate,
};
use nixply_tests::{Nix, Running, harness, needs, run};
use serde_json::Value;

const OCI: &str = "Accept: application/vnd.oci.image.manifest.v1+json\r\n";

/// Builds an image of a few layers whose top layer is unique. Docker fetches all layers above a missing layer
/// again, so the unique layer must be at the top.
fn hello<'n>(nix: &'n Nix, codec: &str, leaf: &str) -> Image<'n> {
    let arguments = format!(
        r#"{{
            name = "served/hello";
            config.Entrypoint = [ "${{pkgs.hello}}/bin/hello" "--greeting" "{leaf}" ];
            config.Env = [ "LEAF=${{builtins.toFile "leaf" "{leaf}"}}" ];
            layers = [ {{ deps = [ pkgs.hello ]; maxLayers = 20; }} ];
            compression = "{codec}";
        }}"#
    );
    Image::build(nix, "", &arguments)
}

fn layers(manifest: &[u8]) -> Vec<Value> {
    let manifest = json(std::str::from_utf8(manifest).unwrap());
    manifest["layers"].as_array().unwrap().clone()
}

/// skopeo copies to a layout. Every blob has its digest, whether the digests were recorded or found by
/// packing.
#[test]
fn skopeo_copies_to_a_layout() {
    let nix = harness!();
    for (recorded, served, expected) in [
        ("zstd", "auto", "zstd"),
        ("gzip", "auto", "gzip"),
        ("none", "auto", "zstd"),
        ("none", "gzip", "gzip"),
        ("none", "none", "none"),
        ("zstd", "none", "none"),
    ] {
        let image = hello(&nix, recorded, "to a layout");
        let server = Served::start(&nix, &[&image.spec], &["--compression", served, "--no-cache"]);
        let (directory, from) = (Directory::new(), format!("docker://{}", server.reference()));
        let layout = directory.join("layout");
        let to = format!("oci:{}:t", layout.display());
        let flags = ["copy", "--quiet", "--preserve-digests", "--src-tls-verify=false"];
        run(skopeo(&flags).args([&from, &to])).ok();
        let images = validate(&layout).unwrap();
        assert_eq!(images[0].id, image.id(), "{recorded} {served}");
        assert!(images[0].layers.iter().all(|layer| layer.codec == expected), "{recorded} {served}");
        // The same image as in nixply's own layout.
        let own = directory.join("own");
        let digest = image.layout(&own, "t", Some(expected));
        assert_eq!(images[0].manifest, digest, "{recorded} {served}");
        let blobs: u64 = images[0].layers.len() as u64;
        let done = server.stop();
        assert_eq!((done.packed, done.blobs), (blobs, blobs + 1), "{recorded} {served}");
        let size: usize = images[0].layers.iter().map(|layer| layer.size).sum();
        assert_eq!(done.bytes, (size + images[0].config.to_string().len()) as u64, "{recorded} {served}");
    }
}

/// skopeo inspect reads manifest and config, which packs nothing.
#[test]
fn skopeo_inspect_packs_nothing() {
    let nix = harness!();
    let image = hello(&nix, "zstd", "to look at");
    let server = Served::start(&nix, &[&image.spec], &["--name", "looked/at:V1"]);
    assert_eq!(server.reference(), format!("{}/looked/at:V1", server.address()));
    let from = format!("docker://{}", server.reference());
    let seen = json(&run(skopeo(&["inspect", "--tls-verify=false"]).arg(from)).ok());
    assert_eq!(seen["RepoTags"], serde_json::json!(["V1"]));
    let layers = image.inspect()["layers"].as_array().unwrap().clone();
    let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    assert_eq!(seen["Layers"].as_array().unwrap().iter().collect::<Vec<_>>(), digests);
    assert_eq!(seen["Digest"], image.inspect()["manifestDigest"]);
    assert_eq!(server.stop().packed, 0);
}

/// A push to another registry neither reads nor packs the blobs that the other registry has.
#[test]
fn skopeo_pushes_only_missing_blobs_to_another_registry() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let repository = unique("-served");
    let to = registry.reference(&repository, "t");
    // No other test uses this level: skopeo remembers the repositories of a blob and would make the registry
    // copy it.
    let push = |leaf: &str| {
        let image = hello(&nix, "zstd:7", leaf);
        let server = Served::start(&nix, &[&image.spec], &["--no-cache"]);
        let from = format!("docker://{}", server.reference());
        let flags =
            ["copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
        run(skopeo(&flags).args([&from, &to])).ok();
        let manifest = registry.get(&repository, "manifests", "t");
        assert_eq!(sha256(&manifest), text(&image.inspect()["manifestDigest"]));
        (layers(&manifest), server.stop())
    };
    let (first, leaf) = (unique("first"), unique("second"));
    let (layers, done) = push(&first);
    assert!(layers.len() > 2);
    assert_eq!((done.packed, done.blobs), (layers.len() as u64, layers.len() as u64 + 1));
    let (_, done) = push(&first);
    // skopeo reads a config to identify the image, even if it does not send it.
    assert_eq!((done.packed, done.blobs), (0, 1));
    let (_, done) = push(&leaf);
    assert_eq!((done.packed, done.blobs), (1, 2));
}

/// Pulls an image, and then an image with another leaf. The engine fetches only the leaf's layer.
fn fetches_only_missing_layers(nix: &Nix, engine: &dyn Engine, pull: &dyn Fn(&str), codec: &str) {
    let take = |leaf: &str| {
        let image = hello(nix, codec, leaf);
        let server = Served::start(nix, &[&image.spec], &["--name", &unique("-pulled"), "--no-cache"]);
        pull(server.reference());
        assert_eq!(engine.run(&[server.reference()]).ok(), leaf, "{codec}");
        let known = engine.inspect(server.reference());
        assert_eq!(text(&known["Id"]).trim_start_matches("sha256:"), &image.id()[7..], "{codec}");
        server.stop()
    };
    let (first, second) = (unique("one"), unique("two"));
    let done = take(&first);
    assert!(done.packed >= 1, "{codec}: {done:?}");
    let done = take(&second);
    assert_eq!((done.packed, done.blobs), (1, 2), "{codec}: {done:?}");
    assert!(done.bytes < 10_000, "{codec}: {done:?}");
    changed_leaf_is_fetched_alone_with_strategy_size(nix, engine, pull, codec);
}

/// With the strategy `size`, a path is above all its references, so a changed leaf is in the top layer. An engine
/// renews every layer above a missing layer (podman unpacks it again, Docker fetches it again).
fn changed_leaf_is_fetched_alone_with_strategy_size(
    nix: &Nix,
    engine: &dyn Engine,
    pull: &dyn Fn(&str),
    codec: &str,
) {
    let take = |leaf: &str| {
        let definitions = format!(
            r#"let app = pkgs.runCommand "app" {{ }} "printf '#!${{pkgs.bash}}/bin/bash\nexec ${{pkgs.hello}}/bin/hello --greeting {leaf}' > $out; chmod +x $out"; in"#
        );
        let arguments = format!(
            r#"{{
                name = "served/by-size"; config.Entrypoint = [ app ];
                maxLayers = 20; strategy = "size"; compression = "{codec}";
            }}"#
        );
        let image = Image::build(nix, &definitions, &arguments);
        let server = Served::start(nix, &[&image.spec], &["--name", &unique("-by-size")]);
        pull(server.reference());
        assert_eq!(engine.run(&[server.reference()]).ok(), leaf, "{codec}");
        (image.inspect()["layers"].as_array().unwrap().clone(), server.stop())
    };
    let (before, _) = take(&unique("three"));
    let (after, done) = take(&unique("four"));
    let top = after.len() - 1;
    assert!(top > 1 && before.len() == after.len(), "{after:?}");
    assert_eq!(before[..top], after[..top], "{codec}");
    assert_ne!(before[top], after[top], "{codec}");
    assert_eq!((done.packed, done.blobs), (0, 2), "{codec}: {done:?}");
    assert!(done.bytes < 10_000, "{codec}: {done:?}");
}

#[test]
fn podman_pulls_only_missing_layers() {
    let nix = harness!();
    for codec in ["zstd", "gzip"] {
        let podman = Podman::new();
        let pull = |reference: &str| {
            podman.pull(reference);
        };
        fetches_only_missing_layers(&nix, &podman, &pull, codec);
    }
}

#[test]
fn docker_pulls_only_missing_layers() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let docker = Docker::new(needs!("NIXPLY_TEST_DOCKER"), registry);
    let pull = |reference: &str| {
        docker.pull(reference).ok();
    };
    fetches_only_missing_layers(&nix, &docker, &pull, "gzip");
}

/// Each client gets the layers with a codec that it supports.
#[test]
fn every_client_gets_a_supported_codec() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let docker = Docker::new(needs!("NIXPLY_TEST_DOCKER"), registry);
    for recorded in ["none", "zstd"] {
        let leaf = unique("for everyone");
        let image = hello(&nix, recorded, &leaf);
        let server = Served::start(&nix, &[&image.spec], &["--name", &unique("-everyone"), "--no-cache"]);
        // Docker 20.10 does not support zstd; this version may.
        docker.pull(server.reference()).ok();
        assert_eq!(docker.run(&[server.reference()]).ok(), leaf);
        let podman = Podman::new();
        podman.pull(server.reference());
        assert_eq!(podman.run(&[server.reference()]).ok(), leaf);
        for (agent, codec) in [
            ("docker/20.10.24+dfsg1 go/go1.19.8 git-commit/5d6db84 os/linux", "gzip"),
            ("docker/28.2.2 go/go1.24 os/linux", "zstd"),
            ("skopeo/1.9.3", "zstd"),
        ] {
            let headers = format!("{OCI}User-Agent: {agent}\r\n");
            let manifest = server.ask("GET", "manifests/latest", &headers);
            assert_eq!(manifest.status, 200, "{}", manifest.head);
            for layer in layers(&manifest.body) {
                assert!(text(&layer["mediaType"]).ends_with(codec), "{agent}: {layer}");
                let blob = server.ask("GET", &format!("blobs/{}", text(&layer["digest"])), "");
                assert_eq!(sha256(&blob.body), text(&layer["digest"]), "{agent}");
            }
        }
        let done = server.stop();
        // Each layer in both codecs.
        assert_eq!(done.packed, 2 * image.diff_ids().len() as u64, "{recorded}");
    }
}

/// Details of the protocol, as curl would see them.
#[test]
fn ranges_head_requests_and_errors_follow_the_protocol() {
    let nix = harness!();
    let image = hello(&nix, "zstd", "to be read in parts");
    let server = Served::start(&nix, &[&image.spec], &["--no-cache"]);
    let known = image.inspect();
    let largest = known["layers"].as_array().unwrap().iter().max_by_key(|layer| layer["size"].as_u64());
    let (digest, size) = (text(&largest.unwrap()["digest"]), largest.unwrap()["size"].as_u64().unwrap());
    let blob = format!("blobs/{digest}");
    let head = server.ask("HEAD", &blob, "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    for (name, value) in [
        ("content-length", size.to_string()),
        ("docker-content-digest", digest.into()),
        ("etag", format!("\"{digest}\"")),
        ("accept-ranges", "bytes".into()),
    ] {
        assert_eq!(head.header(name), Some(&value[..]), "{name}");
    }
    let tail = server.ask("GET", &blob, "Range: bytes=-7\r\n");
    let whole = server.ask("GET", &blob, "");
    assert_eq!((whole.status, sha256(&whole.body)), (200, digest.to_owned()));
    assert_eq!((tail.status, &tail.body[..]), (206, &whole.body[whole.body.len() - 7..]));
    let content_range = format!("bytes {}-{}/{size}", size - 7, size - 1);
    assert_eq!(tail.header("content-range"), Some(&content_range[..]));
    let outside = server.ask("GET", &blob, &format!("Range: bytes={size}-\r\n"));
    assert_eq!(outside.status, 416);
    assert_eq!(outside.header("content-range"), Some(&format!("bytes */{size}")[..]));
    for (method, what, status, code) in [
        ("POST", "blobs/uploads/", 405, "UNSUPPORTED"),
        ("PUT", "manifests/latest", 405, "UNSUPPORTED"),
        ("DELETE", &blob, 405, "UNSUPPORTED"),
        ("GET", "manifests/other", 404, "MANIFEST_UNKNOWN"),
        ("GET", &format!("blobs/{}", sha256(b"absent")), 404, "BLOB_UNKNOWN"),
        ("GET", "../other/tags/list", 404, "NAME_UNKNOWN"),
    ] {
        let answer = server.ask(method, what, OCI);
        assert_eq!((answer.status, &answer.code()[..]), (status, code), "{method} {what}");
    }
    assert_eq!(server.stop().packed, 1);
}

/// Eight clients read one large layer at the same time. The server packs it once, or reads it from the cache that
/// the build has filled.
#[test]
fn concurrent_readers_share_one_packing() {
    let nix = harness!();
    let arguments = r#"{
        name = "python"; config.Cmd = [ "${pkgs.python3}/bin/python3" ]; compression = "zstd";
    }"#;
    let image = Image::build(&nix, "", arguments);
    let known = image.inspect();
    let blob = format!("blobs/{}", text(&known["layers"][0]["digest"]));
    let size = known["layers"][0]["size"].as_u64().unwrap();
    for (arguments, packed) in [(&["--no-cache"][..], 1), (&[], 0)] {
        let (server, barrier) = (Served::start(&nix, &[&image.spec], arguments), Barrier::new(8));
        std::thread::scope(|scope| {
            let reader = |at: u64| {
                let (server, blob, barrier) = (&server, &blob, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let from = if at.is_multiple_of(2) { 0 } else { size / 8 * at };
                    (from, server.ask("GET", blob, &format!("Range: bytes={from}-\r\n")).body)
                })
            };
            let readers: Vec<_> = (0..8).map(reader).collect();
            let answers: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
            let whole = &answers[0].1;
            assert_eq!(blob, format!("blobs/{}", sha256(whole)), "{arguments:?}");
            assert!(answers.iter().all(|(from, body)| body == &whole[*from as usize..]), "{arguments:?}");
        });
        let done = server.stop();
        assert_eq!((done.packed, done.blobs), (packed, 1), "{arguments:?}");
    }
}

/// No client gets a layer that differs from its spec, and the message names the store path.
#[test]
fn damaged_store_path_is_not_served() {
    let nix = harness!();
    let private = nix.private();
    let function = Image::function(&private);
    let body = format!(
        r#"{{ image = {function} {{
            name = "damaged"; compression = "zstd";
            config.Env = [ "FILE=${{sh "content" "echo right > $out"}}" ];
        }}; }}"#
    );
    let file = private.file("image.nix", &body);
    private.build_file(&file, "image", "result").ok();
    let spec = private.directory().join("result");
    let content = private.listing().into_iter().find(|name| name.ends_with("-content")).unwrap();
    let content = private.store_dir().join(content);
    let damage = |text: &str| {
        run(std::process::Command::new("chmod").arg("u+w").arg(&content)).ok();
        fs::write(&content, text).unwrap();
    };
    damage("wrong\n");
    // The cache would still have the original content.
    let mut server = Served::start(&private, &[&spec], &["--no-cache"]);
    assert!(server.reference().ends_with("/damaged:latest"), "{}", server.reference());
    let directory = Directory::new();
    let copy = |server: &Served| {
        let to = format!("oci:{}:t", directory.join("layout").display());
        let from = format!("docker://{}", server.reference());
        run(skopeo(&["copy", "--src-tls-verify=false"]).args([&from, &to]))
    };
    copy(&server).fails();
    assert!(validate(&directory.join("layout")).is_err());
    let words = "error: layer 1 no longer has the content that its image spec records";
    server.wait_for_stderr(&[words, &content.to_string_lossy()]);
    // After a repair, the same server serves it.
    damage("right\n");
    run(std::process::Command::new("chmod").arg("444").arg(&content)).ok();
    copy(&server).ok();
    validate(&directory.join("layout")).unwrap();
    server.stop();
}

/// Ctrl-C while a layer is packed ends the server soon.
#[test]
fn interrupted_server_leaves_no_files() {
    let nix = harness!();
    let arguments = r#"{ name = "python"; config.Cmd = [ "${pkgs.python3}/bin/python3" ]; }"#;
    let image = Image::build(&nix, "", arguments);
    // A slow codec, so that the signal arrives during packing.
    let server = Served::start(&nix, &[&image.spec], &["--compression", "zstd:12", "--no-cache"]);
    let mut reader = skopeo(&["inspect", "--tls-verify=false"]);
    let mut reader = Running::start(reader.arg(format!("docker://{}", server.reference())));
    let packing = || {
        // Files without names are visible only among the process's open files.
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let open =
            processes.flat_map(|process| fs::read_dir(process.path().join("fd")).into_iter().flatten());
        let links = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        links.into_iter().any(|link| link.starts_with(server.scratch()))
    };
    reader.wait_until(std::time::Duration::from_secs(30), |_| packing());
    let begin = std::time::Instant::now();
    let done = server.stop();
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    assert_eq!(done.bytes, 0);
    assert!(!done.stderr.contains("error"), "{}", done.stderr);
    reader.finish(std::time::Duration::from_secs(60)).fails();
}

/// Several images, their names, and errors before the server starts.
#[test]
fn names_and_addresses_are_checked() {
    let nix = harness!();
    let (one, two) = (hello(&nix, "zstd", "one"), hello(&nix, "zstd", "two"));
    let names = ["--name", "a/b:v1", "--name", "c"];
    let server = Served::start(&nix, &[&one.spec, &two.spec], &names);
    let address = server.address().to_owned();
    assert_eq!(server.references, [format!("{address}/a/b:v1"), format!("{address}/c:latest")]);
    assert!(address.starts_with("127.0.0.1:"));
    server.stop();
    let server = Served::start(&nix, &[&one.spec], &["--listen", "0.0.0.0:0", "--allow-remote"]);
    assert!(server.reference().starts_with("0.0.0.0:"));
    assert!(server.reference().ends_with("/hello:latest"));
    server.stop();
    let refused = |arguments: &[&str], specs: &[&Path]| {
        run(nix.nixply().arg("serve").args(specs).args(arguments)).fails()
    };
    let error = refused(&["--listen", "0.0.0.0:0"], &[&one.spec]);
    assert!(error.starts_with("error: 0.0.0.0:0 can be reached from other machines"), "{error}");
    assert!(error.contains("--allow-remote"), "{error}");
    let error = refused(&[], &[&one.spec, &two.spec]);
    assert!(error.contains("two images are called hello:latest"), "{error}");
    let error = refused(&["--name", "a"], &[&one.spec, &two.spec]);
    assert!(error.contains("--name is given 1 times for 2 images"), "{error}");
    let error = refused(&["--name", "A b"], &[&one.spec]);
    let start = "error: invalid value 'A b' for '--name <NAME[:TAG]>': expected parts of letters and digits";
    assert!(error.starts_with(start), "{error}");
    let error = refused(&["--compression", "xz"], &[&one.spec]);
    assert!(error.contains("expected auto or one of none, gzip, zstd, "), "{error}");
    let error = refused(&["--scratch-dir", "/nonexistent"], &[&one.spec]);
    assert!(error.contains("cannot write packed layers to the directory /nonexistent"), "{error}");
}
