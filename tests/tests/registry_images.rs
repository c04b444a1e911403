//! Reading images from a real registry: pull, lock files of base images, validate, inspect and diff.

use std::fs;
use std::path::Path;
use std::process::Command;

use nixply_tests::engines::{Directory, Image, Registry, json, skopeo, text, unique};
use nixply_tests::{Nix, Output, harness, needs, run};

/// An image in the registry, with its reference.
fn pushed<'n>(nix: &'n Nix, registry: &Registry, home: &Path, config: &str) -> (Image<'n>, String) {
    let repository = unique("-nixply-read");
    let image = Image::build(
        nix,
        "",
        &format!(
            "{{ name = \"read\"; config = {{ {config} }}; copyToRoot = [ (pkgs.writeTextDir \"name\" \"{repository}\") ]; \
             layers = [ {{ deps = [ pkgs.hello ]; }} ]; maxLayers = 3; compression = \"gzip\"; }}"
        ),
    );
    let to = format!("{}/{repository}:t", registry.address);
    nixply(nix, home, &["push", "--quiet", image.spec.to_str().unwrap(), &to]).ok();
    (image, to)
}

/// Runs nixply as a user without credentials.
fn nixply(nix: &Nix, home: &Path, arguments: &[&str]) -> Output {
    let mut command = nix.nixply();
    command.args(arguments).current_dir(home).env("HOME", home);
    for variable in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
        command.env_remove(variable);
    }
    run(&mut command)
}

fn nar_hash(nix: &Nix, path: &Path) -> String {
    let mut hash = nix.bare_command("nix", "");
    run(hash.args(["hash", "path", "--type", "sha256"]).arg(path)).ok()
}

/// The hash is that of skopeo's directory, the lock file has it without a pull, and pullImage accepts it with both programs.
#[test]
fn a_pulled_image_has_the_hash_of_skopeo_and_of_the_lock_file() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let directory = Directory::new();
    let home = directory.path();
    let (image, reference) = pushed(&nix, &registry, home, "env = [ \"A=b\" ];");
    let (by_skopeo, by_nixply) = (directory.join("skopeo"), directory.join("nixply"));
    let source = format!("docker://{reference}");
    run(skopeo(&["copy", "--quiet", "--src-tls-verify=false", &source])
        .arg(format!("dir:{}", by_skopeo.display())))
    .ok();
    let pulled = nixply(&nix, home, &["pull", "--quiet", &reference, "nixply"]).ok();
    run(Command::new("diff").args(["-r"]).args([&by_skopeo, &by_nixply])).ok();
    let hash = nar_hash(&nix, &by_skopeo);
    assert_eq!(nar_hash(&nix, &by_nixply), hash);
    let again = nixply(&nix, home, &["pull", &reference, "nixply"]).fails();
    assert!(again.contains("the directory for the image exists already: nixply"), "{again}");

    let name = reference.rsplit('/').next().unwrap().split(':').next().unwrap().to_owned();
    let locked = nixply(&nix, home, &["base", "lock", "bases.json", &reference]).ok();
    assert!(
        locked.starts_with(&format!("{name}  {}:t  linux/", reference.trim_end_matches(":t"))),
        "{locked}"
    );
    let lock = fs::read_to_string(directory.join("bases.json")).unwrap();
    let entry = &json(&lock)["images"][&name];
    let (_, digest) = pulled.split_once('@').unwrap();
    assert_eq!(text(&entry["digest"]), digest);
    let (platform, of_platform) = entry["platforms"].as_object().unwrap().iter().next().unwrap();
    assert_eq!((text(&of_platform["digest"]), text(&of_platform["sha256"])), (digest, hash.as_str()));
    let unchanged = nixply(&nix, home, &["base", "lock", "bases.json"]).ok();
    assert_eq!(unchanged, format!("{name}  {}:t  unchanged", reference.trim_end_matches(":t")));
    assert_eq!(fs::read_to_string(directory.join("bases.json")).unwrap(), lock);

    // Different names, so that Nix runs both programs.
    let repository = reference.trim_end_matches(":t");
    let arch = platform.trim_start_matches("linux/");
    let function = |more: &str| {
        format!(
            "let nix2container = (import {}/nix/nix2container {{ inherit pkgs nixply; }}).nix2container; in \
             nix2container.pullImage {{ imageName = \"{repository}\"; imageDigest = \"{digest}\"; arch = \"{arch}\"; \
             sha256 = \"{hash}\"; {more} }}",
            Nix::repository().display()
        )
    };
    let specs = ["name = \"by-nixply\";", "name = \"by-skopeo\"; tlsVerify = false;"].map(|more| {
        let spec = json(&fs::read_to_string(nix.build(&function(more))).unwrap());
        let layers = spec["layers"].as_array().unwrap().iter();
        layers.map(|layer| text(&layer["digest"]).to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(specs[0], specs[1]);
    let from_lock = format!(
        "let nix2container = (import {}/nix/nix2container {{ inherit pkgs nixply; }}).nix2container; in \
         nix2container.pullImageFromLock {{ lockFile = {}; arch = \"{arch}\"; }}",
        Nix::repository().display(),
        directory.join("bases.json").display()
    );
    let spec = json(&fs::read_to_string(nix.build(&from_lock)).unwrap());
    assert_eq!(spec["layers"].as_array().unwrap().len(), image.diff_ids().len());
    let absent = nix.try_build(&from_lock.replace(&format!("arch = \"{arch}\""), "arch = \"s390x\"")).fails();
    assert!(absent.contains(&format!("has no linux/s390x for {name}; it has {platform}")), "{absent}");
}

#[test]
fn images_in_a_registry_are_inspected_compared_and_validated() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let directory = Directory::new();
    let home = directory.path();
    let (image, reference) = pushed(&nix, &registry, home, "env = [ \"A=b\" ];");
    let shown = json(&nixply(&nix, home, &["inspect", "--json", &reference]).ok());
    assert_eq!(text(&shown["imageId"]), image.id());
    let local = image.inspect();
    for (remote, local) in shown["layers"].as_array().unwrap().iter().zip(local["layers"].as_array().unwrap())
    {
        for key in ["digest", "diffId", "size", "mediaType"] {
            assert_eq!(remote[key], local[key], "{key}");
        }
        assert_eq!(text(&remote["key"]).len(), 64);
    }
    let page = nixply(&nix, home, &["inspect", &reference]).ok();
    assert!(page.contains(&format!("image id   {}", image.id())), "{page}");

    let spec = image.spec.to_str().unwrap();
    let same = nixply(&nix, home, &["diff", spec, &reference]).ok();
    assert!(same.starts_with("The same image: "), "{same}");
    let (_, other) = pushed(&nix, &registry, home, "env = [ \"A=c\" ];");
    let diff = json(&nixply(&nix, home, &["diff", "--format", "json", &reference, &other]).ok());
    assert_eq!(diff["fields"], json("[\"config.Env\"]"));
    assert_eq!(diff["push"]["layers"], 1, "the layer with the name differs");

    let valid = nixply(&nix, home, &["validate", &reference]);
    assert!(valid.stderr.ends_with(": valid\n"), "{}", valid.stderr);
    assert_eq!(valid.ok(), "");
    // A manifest with a wrong size, which this registry accepts.
    let repository = reference.split('/').nth(1).unwrap().trim_end_matches(":t");
    let manifest = registry.get(repository, "manifests", "t");
    let mut wrong = json(std::str::from_utf8(&manifest).unwrap());
    let size = wrong["layers"][0]["size"].as_u64().unwrap();
    wrong["layers"][0]["size"] = (size + 1).into();
    wrong["layers"][1]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd".into();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    registry.put_manifest(repository, "wrong", media_type, &wrong.to_string());
    let invalid = nixply(&nix, home, &["validate", &reference.replace(":t", ":wrong")]);
    assert_eq!(invalid.code, Some(1));
    for line in [
        format!(": layer 1: size: expected {}, found {size}\n", size + 1),
        ": layer 2: media type: expected application/vnd.oci.image.layer.v1.tar+zstd, found a blob of \
         application/vnd.oci.image.layer.v1.tar+gzip\n"
            .into(),
    ] {
        assert!(invalid.stdout.contains(&line), "{line}: {}", invalid.stdout);
    }
    let absent = nixply(&nix, home, &["inspect", &reference.replace(":t", ":none")]).fails();
    assert!(absent.contains("the registry has no image"), "{absent}");
}
