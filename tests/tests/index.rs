//! Image indexes: built by Nix, and read by skopeo, podman and Docker from a layout and from `nixply serve`.

use std::fs;
use std::path::{Path, PathBuf};

use nixply_tests::engines::{
    Directory, Docker, Engine, Podman, Registry, Served, Valid, json, sha256, skopeo, text, texts, validate,
};
use nixply_tests::skopeo::SkopeoLink;
use nixply_tests::{Nix, Project, harness, needs, run};
use serde_json::Value;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Images for amd64 in gzip and zstd, and for arm64 and 32-bit ARM. Their programs are those of this machine.
const IMAGES: &str = r#"
    let
      image = arch: compression: buildImage {
        name = "multi"; inherit arch compression;
        config.Entrypoint = [ "${pkgs.hello}/bin/hello" ]; config.Env = [ "PLATFORM=${arch} ${compression}" ];
      };
      arm64 = image "arm64" "gzip:1"; arm = image "arm/v7" "gzip:1";
      amd64 = image "amd64" "gzip:1"; twin = image "amd64" "zstd:1";
    in"#;

const ARGUMENTS: &str = r#"{
    name = "Team/Multi"; tag = "1.0"; annotations."org.example.index" = "yes";
    images = [ arm64 twin { image = arm; annotations."org.example.board" = "<any>"; } amd64 ];
}"#;

fn index(nix: &Nix) -> PathBuf {
    nix.build(&format!("{IMAGES} buildIndex false {ARGUMENTS}"))
}

fn references(nix: &Nix, path: &Path) -> Vec<String> {
    let mut paths: Vec<_> = run(nix.command("nix-store").args(["-q", "--references"]).arg(path))
        .ok()
        .lines()
        .map(str::to_owned)
        .collect();
    paths.sort();
    paths
}

/// Returns platforms and, for the zstd twin, its annotation.
fn platforms(index: &Value) -> Vec<String> {
    let platform = |entry: &Value| {
        let platform = &entry["platform"];
        let names = ["os", "architecture", "variant"].map(|key| platform[key].as_str().unwrap_or_default());
        let twin = entry["annotations"]["io.github.containers.compression.zstd"].as_str();
        format!("{} {}", names.join("/"), twin.unwrap_or_default())
    };
    index["manifests"].as_array().unwrap().iter().map(platform).collect()
}

const PLATFORMS: [&str; 4] = ["linux/amd64/ ", "linux/amd64/ true", "linux/arm/v7 ", "linux/arm64/ "];

/// Returns the value of the config's variable.
fn platform_of(valid: &Valid) -> String {
    let env = texts(&valid.config["config"]["Env"]);
    env.into_iter().find_map(|entry| entry.strip_prefix("PLATFORM=").map(str::to_owned)).unwrap()
}

const CONFIGS: [&str; 4] = ["amd64 gzip:1", "amd64 zstd:1", "arm/v7 gzip:1", "arm64 gzip:1"];

/// Returns skopeo's target `oci:DIRECTORY:t`.
fn oci(layout: &Path) -> String {
    format!("oci:{}:t", layout.display())
}

fn digest(inspected: &Value) -> String {
    text(&inspected["indexDigest"]).to_owned()
}

fn inspect(nix: &Nix, spec: &Path) -> Value {
    json(&run(nix.nixply().args(["inspect", "--json"]).arg(spec)).ok())
}

#[test]
fn frontends_make_the_same_index_in_any_order() {
    let nix = harness!();
    let spec = index(&nix);
    let bytes = fs::read_to_string(&spec).unwrap();
    assert!(spec.display().to_string().ends_with("-index-Multi.json"), "{}", spec.display());
    let other = nix.build(&format!(
        "{IMAGES} buildIndex false (({ARGUMENTS}) // {{ images = [ amd64 {{ image = arm; annotations.\"org.example.board\" = \"<any>\"; }} twin arm64 ]; }})"
    ));
    assert_eq!(fs::read_to_string(&other).unwrap(), bytes);
    let named = references(&nix, &spec);
    assert!(named.iter().any(|path| path.contains("-hello-")), "{named:?}");
    assert!(!named.iter().any(|path| path.contains("-image-")), "{named:?}");
    let facts = |index: &str| {
        nix.eval(&format!("{IMAGES} let index = {index}; in {{ inherit (index) imageName imageTag; }}"))
    };
    let expected = facts(&format!("buildIndex false {ARGUMENTS}"));
    assert_eq!(expected, json(r#"{"imageName": "team/multi", "imageTag": "1.0"}"#));
    if nix.plugin.is_some() {
        let made = nix.build(&format!("{IMAGES} builtins.nixplyIndex {ARGUMENTS}"));
        assert_eq!(fs::read_to_string(&made).unwrap(), bytes);
        assert_eq!(references(&nix, &made), named);
        let call = format!("builtins.nixplyIndex {ARGUMENTS}");
        assert_eq!(facts(&call), expected);
        let said = nix
            .eval(&format!("{IMAGES} let index = {call}; in {{ inherit (index) images manifestDigest; }}"));
        let inspected = inspect(&nix, &spec);
        assert_eq!(said["manifestDigest"], inspected["indexDigest"]);
        for (image, known) in
            said["images"].as_array().unwrap().iter().zip(inspected["images"].as_array().unwrap())
        {
            for key in ["platform", "imageId", "manifestDigest"] {
                assert_eq!(image[key], known[key], "{key}");
            }
        }
    }
}

#[test]
fn images_of_other_systems_are_inputs_of_the_index() {
    let nix = harness!();
    let repository = Nix::repository();
    let drv = nix.eval(&format!(
        "let image = system: import {}/nix/build-image.nix {{ builder = \"${{program}}\"; usePlugin = false; inherit system; }} \
           {{ name = \"multi\"; }}; \
         in (buildIndex false {{ name = \"multi\"; images = map image [ \"x86_64-linux\" \"aarch64-linux\" ]; }}).drvPath",
        repository.display()
    ));
    let inputs = run(nix.command("nix-store").args(["-q", "--references", text(&drv)])).ok();
    let images: Vec<&str> = inputs.lines().filter(|path| path.ends_with("-image-multi.json.drv")).collect();
    let systems: Vec<bool> = ["x86_64-linux", "aarch64-linux"]
        .map(|system| {
            images.iter().any(|image| fs::read_to_string(image).unwrap().contains(&format!("\"{system}\"")))
        })
        .into();
    assert_eq!((images.len(), systems), (2, vec![true, true]));
}

#[test]
fn wrong_indexes_are_refused_with_their_images() {
    let nix = harness!();
    let twice = "{ name = \"multi\"; images = [ amd64 arm64 (image \"amd64\" \"none\") ]; }";
    let mut messages = vec![nix.try_build(&format!("{IMAGES} buildIndex false {twice}")).fails()];
    if nix.plugin.is_some() {
        messages.push(nix.try_eval(&format!("{IMAGES} (builtins.nixplyIndex {twice}).outPath")).fails());
    }
    for message in messages {
        for part in [
            "index of images[0] (",
            "and images[2] (",
            "is not valid: both are for linux/amd64 and have layers in gzip or without compression: leave one of them out",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
    for (arguments, part) in [
        ("{ name = \"multi\"; images = [ ]; }", "images is not valid: expected at least one image"),
        (
            "{ name = \"multi\"; images = [ { annotations = { }; } ]; }",
            "argument `images[0]` lacks the attribute `image`",
        ),
        ("{ name = \"a b\"; images = [ amd64 ]; }", "image name \"a b\" is not valid"),
    ] {
        let message = nix.try_build(&format!("{IMAGES} buildIndex false {arguments}")).fails();
        assert!(message.contains(part), "{message}");
    }
    let spec = index(&nix);
    let message = run(nix.nixply().args(["explain"]).arg(&spec)).fails();
    assert!(message.contains("is the spec of an image index, not an image spec"), "{message}");
}

#[test]
fn layouts_have_all_images_below_one_tag() {
    let nix = harness!();
    let (spec, directory) = (index(&nix), Directory::new());
    let layout = directory.join("layout");
    let mut write = nix.nixply();
    write.arg("layout").arg(&spec).arg(&layout).args(["--tag", "t"]);
    let printed = run(&mut write).ok();
    let inspected = inspect(&nix, &spec);
    assert_eq!(printed, digest(&inspected));
    let images = validate(&layout).unwrap();
    assert_eq!(images.iter().map(platform_of).collect::<Vec<_>>(), CONFIGS);
    let top = json(&fs::read_to_string(layout.join("index.json")).unwrap());
    assert_eq!(top["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&top["manifests"][0]["mediaType"], &top["manifests"][0]["digest"]),
        (&INDEX.into(), &printed.clone().into())
    );
    // Writing again changes nothing.
    assert_eq!(run(&mut write).ok(), printed);
    assert_eq!(json(&fs::read_to_string(layout.join("index.json")).unwrap()), top);

    let raw = run(skopeo(&["inspect", "--raw"]).arg(oci(&layout))).stdout;
    assert_eq!(sha256(raw.as_bytes()), printed);
    assert_eq!(platforms(&json(&raw)), PLATFORMS);
    let (all, one) = (directory.join("all"), directory.join("one"));
    run(skopeo(&["copy", "--quiet", "--all", "--preserve-digests"]).args([oci(&layout), oci(&all)])).ok();
    let copied = validate(&all).unwrap();
    assert_eq!(copied.iter().map(platform_of).collect::<Vec<_>>(), CONFIGS);
    let entry = json(&fs::read_to_string(all.join("index.json")).unwrap());
    assert_eq!(entry["manifests"][0]["digest"], printed.as_str());
    run(skopeo(&["copy", "--quiet", "--override-arch", "arm64"]).args([oci(&layout), oci(&one)])).ok();
    let copied = validate(&one).unwrap();
    assert_eq!(copied.iter().map(platform_of).collect::<Vec<_>>(), ["arm64 gzip:1"]);
}

#[test]
fn clients_pull_indexes_from_the_server() {
    let nix = harness!();
    let (spec, directory) = (index(&nix), Directory::new());
    let server = Served::start(&nix, &[&spec], &["--no-cache"]);
    assert!(server.reference().ends_with("/multi:latest"), "{}", server.reference());
    let from = format!("docker://{}", server.reference());
    let raw = run(skopeo(&["inspect", "--raw", "--tls-verify=false"]).arg(&from)).stdout;
    assert_eq!(sha256(raw.as_bytes()), digest(&inspect(&nix, &spec)));
    let made = json(&raw);
    assert_eq!(
        (&made["mediaType"], platforms(&made)),
        (&INDEX.into(), PLATFORMS.map(str::to_owned).to_vec())
    );
    assert_eq!(made["annotations"]["org.example.index"], "yes");
    assert_eq!(made["manifests"][2]["annotations"]["org.example.board"], "<any>");

    let layout = directory.join("layout");
    let flags = ["copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false"];
    run(skopeo(&flags).args([&from, &oci(&layout)])).ok();
    let images = validate(&layout).unwrap();
    assert_eq!(images.iter().map(platform_of).collect::<Vec<_>>(), CONFIGS);
    let codecs =
        images.iter().map(|image| image.layers.iter().map(|layer| &layer.codec[..]).collect::<Vec<_>>());
    let codecs: Vec<_> = codecs
        .map(|mut codecs| {
            codecs.dedup();
            codecs
        })
        .collect();
    assert_eq!(codecs, [["gzip"], ["zstd"], ["gzip"], ["gzip"]]);
    let dir = directory.join("dir");
    run(skopeo(&flags).args([from.clone(), format!("dir:{}", dir.display())])).ok();
    assert_eq!(fs::read(dir.join("manifest.json")).unwrap(), raw.as_bytes());

    let podman = Podman::new();
    let id = podman.pull(&from);
    assert_eq!(podman.inspect(&id)["Architecture"], "amd64");
    let output = podman.run(&[&id]).ok();
    assert_eq!(output, "Hello, world!");
}

#[test]
fn docker_pulls_the_image_for_this_machine() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let docker = Docker::new(needs!("NIXPLY_TEST_DOCKER"), registry);
    let spec = index(&nix);
    let server = Served::start(&nix, &[&spec], &["--no-cache"]);
    docker.pull(server.reference()).ok();
    let image = docker.inspect(server.reference());
    assert_eq!(image["Architecture"], "amd64");
    assert!(
        texts(&image["Config"]["Env"]).iter().any(|entry| entry.starts_with("PLATFORM=amd64")),
        "{image}"
    );
}

#[test]
fn skopeo_reads_indexes_as_nix_sources() {
    let nix = harness!();
    let (spec, directory) = (index(&nix), Directory::new());
    let link = SkopeoLink::new(&nix);
    let layout = directory.join("layout");
    run(&mut link.copy(&spec, &["--quiet", "--all", "--preserve-digests", &oci(&layout)])).ok();
    assert_eq!(validate(&layout).unwrap().iter().map(platform_of).collect::<Vec<_>>(), CONFIGS);
    let source = format!("nix:{}", spec.display());
    let raw = run(&mut link.command(&["inspect", "--raw", &source])).stdout;
    assert_eq!(sha256(raw.as_bytes()), digest(&inspect(&nix, &spec)));
    let one = json(&run(&mut link.command(&["--override-arch", "arm64", "inspect", &source])).ok());
    assert_eq!(one["Architecture"], "arm64");
}

#[test]
fn reports_show_indexes_platform_by_platform() {
    let nix = harness!();
    let old = index(&nix);
    let new = nix.build(&format!(
        "{IMAGES} buildIndex false {{ name = \"multi\"; images = [ arm64 twin (image \"riscv64\" \"none\") \
         (buildImage {{ name = \"multi\"; arch = \"amd64\"; compression = \"gzip:1\"; copyToRoot = pkgs.bash; }}) ]; }}"
    ));
    let shown = run(nix.nixply().arg("inspect").arg(&old)).ok();
    for line in
        ["image for linux/amd64", "image for linux/amd64 (zstd)", "annotation org.example.board=<any>"]
    {
        assert!(shown.lines().any(|shown| shown == line), "{shown}");
    }
    let text = run(nix.nixply().arg("diff").args([&old, &new])).ok();
    assert!(
        text.lines().next().unwrap().ends_with("; 1 of 4 platforms changed, 1 added, 1 removed"),
        "{text}"
    );
    let diff = json(&run(nix.nixply().args(["diff", "--format", "json"]).args([&old, &new])).ok());
    assert_eq!(diff["version"], 1);
    let platforms: Vec<_> =
        diff["images"].as_array().unwrap().iter().map(|image| &image["platform"]).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/amd64 (zstd)", "linux/arm64"]);
    assert_eq!(
        (texts(&diff["added"]), texts(&diff["removed"])),
        (vec!["linux/riscv64"], vec!["linux/arm/v7"])
    );
    assert_eq!(texts(&diff["annotations"]), ["index"]);
    assert_eq!(diff["images"][2]["push"]["layers"], 0);
    assert!(diff["images"][0]["push"]["layers"].as_u64().unwrap() > 0);
    let same = run(nix.nixply().arg("diff").args([&old, &old])).ok();
    assert!(same.starts_with("The same index: 4 platforms\n"), "{same}");
    // An image is compared with the image for its platform.
    let image = nix.build(&format!("{IMAGES} arm64"));
    let alone = run(nix.nixply().arg("diff").args([&image, &old])).ok();
    assert!(alone.starts_with("The same image: "), "{alone}");
    let other = nix.build(&format!("{IMAGES} image \"s390x\" \"gzip\""));
    let message = run(nix.nixply().arg("diff").args([&old, &other])).fails();
    assert!(
        message
            .contains("has no image for linux/s390x, the platform of the other image; it has linux/amd64, "),
        "{message}"
    );
}

/// The packages for another system are those of this machine, with the other processor's name.
#[test]
fn containers_for_several_systems_are_indexes() {
    let nix = harness!();
    let devenv = r#"{ pkgs, ... }: {
        containers.multi = {
          name = "multi"; copyToRoot = null; systems = [ "aarch64-linux" "x86_64-linux" ];
          startupCommand = "${pkgs.hello}/bin/hello";
        };
    }"#;
    let project = Project::new(&nix, devenv);
    let packages = format!(
        r#"{{ system ? builtins.currentSystem, ... }}:
        let
          pkgs = import {}/tests/packages {{ lock = builtins.fromJSON (builtins.readFile {}); }};
          go.GOARCH = {{ aarch64-linux = "arm64"; x86_64-linux = "amd64"; }}.${{system}};
        in
        pkgs // {{ stdenv = pkgs.stdenv // {{ hostPlatform = pkgs.stdenv.hostPlatform // {{ inherit go; }}; }}; }}"#,
        Nix::repository().display(),
        nix.lock.display()
    );
    fs::write(project.packages().join("default.nix"), packages).unwrap();
    let inspected = inspect(&nix, &project.build("multi"));
    let images = inspected["images"].as_array().unwrap();
    let platforms: Vec<_> = images.iter().map(|image| &image["platform"]).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    let (all, one) = (project.path().join("all"), project.path().join("one"));
    project.container(&format!("copy multi --registry oci:{}:", all.display())).ok();
    let entry = json(&fs::read_to_string(all.join("index.json")).unwrap())["manifests"][0].clone();
    assert_eq!(entry["mediaType"], INDEX);
    assert_eq!(validate(&all).unwrap().len(), 2);
    // The user's arguments select the images.
    let arguments = ["--copy-args", "--multi-arch system"];
    let destination = format!("oci:{}:", one.display());
    run(project.nixply(["container", "copy", "multi", "--registry", &destination]).args(arguments)).ok();
    assert_eq!(validate(&one).unwrap().len(), 1);
    // The project is evaluated for each system.
    project.write("devenv.nix", &devenv.replace("x86_64-linux", "riscv64-linux"));
    let message = project.container("build multi").fails();
    assert!(message.contains("riscv64-linux"), "{message}");
}
