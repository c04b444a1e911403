//! Unpacked images: their file tree equals the tree of the store paths, in every property that a store path
//! defines.

use std::fs;

use nixply_packer::Codec;
use nixply_tests::engines::{Directory, Engine, Image, Podman, Tree, as_root, closure, json, texts};
use nixply_tests::{harness, run};

/// Nix code with store paths that have files of every type and unusual names, with two store paths that have
/// the same directory, and with store paths that are a file or a symlink.
const ODD: &str = r##"let
    odd = pkgs.runCommand "odd" { } ''
      mkdir -p $out/bin $out/etc/empty "$out/etc/ä €"
      echo plain > $out/plain
      : > $out/empty
      echo '#!/bin/sh' > $out/bin/run
      chmod +x $out/bin/run
      ln $out/plain $out/hard
      ln -s plain $out/link
      ln -s ../nowhere/at/all $out/etc/dangling
      ln -s ${pkgs.hello}/bin/hello $out/bin/hello
      echo odd > "$out/etc/ä €/a\"b\\c *\$x"
      echo line > "$out/etc/$(printf 'new\nline')"
      long=$(printf 'n%.0s' $(seq 1 150))
      mkdir -p $out/$long/$long
      echo long > $out/$long/$long/$long
      ln -s /$long/$long/$long $out/far
      head -c 1048577 /dev/zero > $out/zeros
    '';
    more = pkgs.runCommand "more" { } ''
      mkdir -p $out/etc $out/tmp
      echo one > $out/etc/one
      echo two > $out/etc/two
    '';
    link = pkgs.runCommand "link+1.0?=x" { } "ln -s ${pkgs.hello} $out";
    text = pkgs.writeText "text" "${pkgs.bash}";
    script = pkgs.writeScript "script" "#! ${pkgs.bash}/bin/sh";
in"##;

const IMAGE: &str = r#"{
    name = "odd";
    config.cmd = [ "${script}" "one" ];
    config.env = [ "TEXT=${text}" ];
    config.workingdir = "/etc";
    config.user = "1001:1002";
    layers = [ { deps = [ link ]; maxLayers = 2; } ];
    copyToRoot = [ odd more ];
    perms = [
      { path = more; regex = "/tmp$"; mode = "1777"; }
      { path = more; regex = "/etc/one$"; mode = "4750"; uid = 1001; gid = 1002; }
    ];
    maxLayers = 3;
}"#;

fn expected(nix: &nixply_tests::Nix) -> Tree {
    let to_root = [nix.build(&format!("{ODD} odd")), nix.build(&format!("{ODD} more"))];
    let mut tree = Tree::of_store_paths(&closure(nix, ODD, "odd more link text script"), &to_root);
    assert!(tree.count() > 100, "{}", tree.count());
    tree.own("/tmp", 0o1777, 0, 0);
    tree.own("/etc/one", 0o4750, 1001, 1002);
    tree
}

#[test]
fn umoci_unpacks_exactly_the_store_paths() {
    let nix = harness!();
    let image = Image::build(&nix, ODD, IMAGE);
    assert_eq!(image.diff_ids().len(), 5);
    let expected = expected(&nix);
    let directory = Directory::new();
    let layout = directory.join("layout");
    let unpack = |codec: &str| {
        image.layout(&layout, codec, Some(codec));
        let bundle = directory.join(&format!("bundle-{codec}"));
        let from = format!("{}:{codec}", layout.display());
        (run(as_root("umoci").args(["unpack", "--image", &from]).arg(&bundle)), bundle)
    };
    for codec in Codec::all().filter(|codec| codec.is_universal()).map(Codec::name) {
        let (output, bundle) = unpack(codec);
        output.ok();
        let differences = Tree::at(&bundle.join("rootfs")).differences(&expected);
        assert!(differences.is_empty(), "{codec}\n{differences}");
        // The configuration for a runtime such as runc.
        let process = &json(&fs::read_to_string(bundle.join("config.json")).unwrap())["process"];
        let script = nix.build(&format!("{ODD} script"));
        assert_eq!(texts(&process["args"]), [script.to_str().unwrap(), "one"]);
        assert_eq!((&process["user"]["uid"], &process["user"]["gid"]), (&1001.into(), &1002.into()));
        assert_eq!(process["cwd"], "/etc");
        let text = format!("TEXT={}", nix.build(&format!("{ODD} text")).display());
        assert!(texts(&process["env"]).contains(&&text[..]), "{process}");
    }
    // umoci 0.4 does not support zstd and fails with an error; versions from 0.5 support it.
    let (output, bundle) = unpack("zstd");
    let version = run(as_root("umoci").arg("--version")).ok();
    if version.contains("version 0.4.") {
        let error = output.fails();
        assert!(
            error.contains("blob is not correct mediatype: application/vnd.oci.image.layer.v1.tar+zstd"),
            "{error}"
        );
    } else {
        output.ok();
        assert_eq!(Tree::at(&bundle.join("rootfs")).differences(&expected), "");
    }
}

#[test]
fn podman_mounts_exactly_the_store_paths() {
    let nix = harness!();
    let image = Image::build(&nix, ODD, IMAGE);
    let expected = expected(&nix);
    for codec in Codec::all().map(Codec::name) {
        let podman = Podman::new();
        let reference = podman.load(&image, codec);
        assert_eq!(format!("sha256:{reference}"), image.id(), "{codec}");
        let root = run(&mut podman.command(&["image", "mount", &reference])).ok();
        let differences = Tree::at(root.as_ref()).differences(&expected);
        assert!(differences.is_empty(), "{codec}\n{differences}");
        run(&mut podman.command(&["image", "umount", &reference])).ok();
    }
}

/// Tests the comparison of trees itself.
#[test]
fn tree_comparison_detects_differences() {
    let directory = Directory::new();
    let (left, right) = (directory.join("left"), directory.join("right"));
    for root in [&left, &right] {
        fs::create_dir_all(root).unwrap();
        fs::write(root.join("same"), "same").unwrap();
        std::os::unix::fs::symlink("same", root.join("link")).unwrap();
    }
    let differences = || Tree::at(&left).differences(&Tree::at(&right));
    let lines_of = |name: &str| differences().lines().filter(|line| line.starts_with(name)).count();
    // The modification times of all files differ too.
    fs::write(left.join("same"), "other").unwrap();
    fs::write(left.join("new"), "").unwrap();
    fs::write(right.join("gone"), "").unwrap();
    fs::remove_file(left.join("link")).unwrap();
    std::os::unix::fs::symlink("else", left.join("link")).unwrap();
    let text = differences();
    assert!(text.contains("/new: not expected") && text.contains("/gone: missing"), "{text}");
    assert_eq!((lines_of("/same: "), lines_of("/link: ")), (1, 1), "{text}");
    assert!(text.contains("Symlink(\"else\")"), "{text}");
    assert!(Tree::at(&left).differences(&Tree::at(&left)).is_empty());
}
