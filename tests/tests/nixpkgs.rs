//! Properties of real nixpkgs that the tests' package set lacks: a build from the flake's files, other
//! programs with the same name, packages of another machine, and additional uses of derivations.

use std::fs;
use std::path::Path;
use std::process::Command;

use nixply_tests::{Nix, harness, plugin_harness, run, system};
use serde_json::json;

/// Returns the path of a file of the repository, for a Nix expression.
fn file(name: &str) -> String {
    Nix::repository().join(name).display().to_string()
}

/// Returns all files below a directory as sorted relative paths.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Returns the store path of `nix/source.nix` below a directory.
fn source_of(nix: &Nix, root: &Path) -> String {
    let expression = format!("\"${{import {}/nix/source.nix {{ }}}}\"", root.display());
    let mut command = nix.bare_command("nix-instantiate", "");
    let source = run(command.args(["--eval", "--json", "--read-write-mode", "-E", &expression])).ok();
    serde_json::from_str(&source).unwrap()
}

/// Regression test: the workspace member `study` and the embedded `nix` were missing in builds from the
/// flake's files.
#[test]
fn nixpkgs_source_set_has_all_members_and_embedded_files() {
    let nix = harness!();
    let root = Nix::repository();
    let source = source_of(&nix, &root);
    let source = Path::new(&source);
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members = manifest.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    let members: Vec<&str> = members
        .split(',')
        .map(|member| member.trim().trim_matches('"'))
        .filter(|member| !member.is_empty())
        .collect();
    assert!(members.contains(&"study") && members.contains(&"packer/planning"), "{members:?}");
    for member in &members {
        assert!(source.join(member).join("Cargo.toml").is_file(), "{member}");
    }
    for embedded in ["nix/source.nix", "nix/modules/default.nix", "nix/modules/containers/environment.sh"] {
        assert!(source.join(embedded).is_file(), "{embedded}");
    }
    for no_part in ["tests/packages", "docs", "examples", "README.md", "flake.nix", "target", ".git"] {
        assert!(!source.join(no_part).exists(), "{no_part}");
    }
}

/// nix/source.nix reads the members and their metadata from the workspace's Cargo.toml files.
#[test]
fn nixpkgs_source_set_follows_the_workspace() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("project");
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("nix/source.nix", &fs::read_to_string(file("nix/source.nix")).unwrap());
    write("Cargo.toml", "[workspace]\nmembers = [\"one\", \"deep/two\"]\n");
    write("Cargo.lock", "");
    write(
        "one/Cargo.toml",
        "[package.metadata.source]\nembeds = [\"data\"]\nleaves-out = [\"data/tests\"]\n",
    );
    write("deep/two/Cargo.toml", "[package]\n");
    for name in [
        "one/src/lib.rs",
        "deep/two/src/lib.rs",
        "data/a",
        "data/tests/b",
        "data-not",
        "deep/three/c",
        "docs/d",
    ] {
        write(name, "");
    }
    let source = source_of(&nix, &root);
    let expected = [
        "Cargo.lock",
        "Cargo.toml",
        "data/a",
        "deep/two/Cargo.toml",
        "deep/two/src/lib.rs",
        "one/Cargo.toml",
        "one/src/lib.rs",
    ];
    assert_eq!(files(Path::new(&source)), expected);
    // The source is the same through a symlink, and with more files that it omits.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path(), &link).unwrap();
    write("docs/e", "");
    write("target/debug/f", "");
    assert_eq!(source_of(&nix, &link.join("project")), source);

    write("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\n");
    let error = nix.eval_plain(&format!("\"${{import {}/nix/source.nix {{ }}}}\"", root.display())).fails();
    assert!(error.contains("name the workspace member crates/* of Cargo.toml without a pattern"), "{error}");
}

/// A stand-in for nixpkgs' `envsubst` (a8m/envsubst). Unlike gettext's, it accepts no list of variables and
/// replaces unset variables by nothing.
const A8M: &str = r##"#!/usr/bin/python3
import os, re, sys
text = sys.stdin.read()
sys.stdout.write(re.sub(r"\$(?:\{(\w+)[^}]*\}|(\w+)|\$)", lambda m: os.environ.get(m[1] or m[2] or "", "") if m[1] or m[2] else "$", text))
"##;

/// In a startup command, the environment's variables are replaced, and shell variables stay.
#[test]
fn nixpkgs_envsubst_keeps_the_commands_variables() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    let entrypoint = nix.build(&format!(
        r#"let
             pkgs' = pkgs // {{
               envsubst = pkgs.writeScriptBin "envsubst" (builtins.fromJSON {stand_in});
             }};
             evaluated = import {evaluate} {{
               pkgs = pkgs';
               self = {directory};
               modules = [ {{ nixply.package = nixply; nixply.usePlugin = false; env.FOO = "bar"; env.text = "of the environment"; env.LC_ALL = "C"; }} ];
             }};
           in builtins.head evaluated.config.containers.shell.entrypoint"#,
        stand_in = serde_json::to_string(&serde_json::to_string(A8M).unwrap()).unwrap(),
        evaluate = file("nix/evaluate.nix"),
        directory = directory.path().display(),
    ));
    let entered = |words: &[&str]| {
        let mut enter = Command::new(&entrypoint);
        // The image's config sets these variables.
        enter.args(words).env_clear().env("TMPDIR", directory.path()).env("FOO", "bar");
        enter.env("text", "of the environment").env("LC_ALL", "C");
        run(&mut enter).ok()
    };
    for (command, expected) in [
        (r#"for i in 1 2; do echo "$i $FOO"; done"#, "1 bar\n2 bar"),
        (r#"x=5; echo "x=$x ${x:-none} ${y:-none}"; [ "$$" -gt 0 ] && echo pid"#, "x=5 5 none\npid"),
        (r#"a=1x; echo ${a%x} ${#a}; arr=(7 8); echo ${arr[@]}"#, "1 2\n7 8"),
        (r#"printf 'p q\n' | while read -r p q; do echo "$q$p"; done"#, "qp"),
        // Also within single quotes, as the guide says.
        (r"echo '$FOO ${FOO} $NOPE ${NOPE} $FOOD ${FOO'", "bar bar $NOPE ${NOPE} $FOOD ${FOO"),
        (r"echo '$text $LC_ALL'", "of the environment C"),
        (r"echo '$$FOO $1 ${1} $'", "$bar $1 ${1} $"),
        ("echo 'é$FOO*'", "ébar*"),
    ] {
        assert_eq!(entered(&[command]).trim_end_matches('\n'), expected, "{command}");
    }
    // Several arguments are a program and its arguments.
    assert_eq!(entered(&["echo", "'$FOO'", "$FOO"]).trim_end(), "'$FOO' $FOO");
}

/// Returns `body` with `cross` in scope: the package set for another machine, whose programs cannot run here.
fn cross(body: &str) -> String {
    format!(
        r#"let
             isFor = machine: name: package: package // {{ inherit machine; }};
             native = pkgs // {{
               callPackage = path: _: if toString path == "{package}" then nixply else throw "not built here: ${{toString path}}";
             }};
             wrong = name: throw "${{name}} is for another machine";
             cross = pkgs // {{
               buildPackages = native;
               stdenv = pkgs.stdenv // {{
                 buildPlatform = pkgs.stdenv.hostPlatform;
                 hostPlatform = {{ system = "aarch64-linux"; isLinux = true; isDarwin = false; go.GOARCH = "arm64"; }};
               }};
               bashInteractive = pkgs.writeShellScriptBin "bash" "echo aarch64";
             }}
             // builtins.listToAttrs (map (name: {{ inherit name; value = wrong name; }}) [
               "callPackage" "jq" "skopeo" "runtimeShell" "writeShellApplication" "cacert" "runCommand" "writeShellScript"
             ]);
           in {body}"#,
        package = file("nix/package.nix"),
    )
}

#[test]
fn nixpkgs_cross_images_are_built_by_programs_of_this_machine() {
    let nix = harness!();
    let body = format!(
        r#"let
             functions = import {default} {{ pkgs = cross; usePlugin = false; }};
             inherit (functions.nix2container) buildImage buildLayer pullImage pullImageFromManifest;
             base = pullImage {{ imageName = "alpine"; imageDigest = "sha256:0"; sha256 = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="; }};
             image = buildImage {{ name = "a"; copyToRoot = cross.hello; layers = [ (buildLayer {{ deps = [ cross.bash ]; }}) ]; fromImage = base; initializeNixDatabase = true; }};
           in {{
             inherit (image) system;
             inherit (image.request) arch;
             builder = image.builder == "${{nixply}}/bin/nixply";
             scripts = map (script: script.drvPath) [ image.copyTo image.copyToRegistry image.copyToPodman image.copyToDockerDaemon ];
             pulled = base.drvPath;
             getManifest = (pullImageFromManifest {{ imageName = "a"; }}).getManifest.drvPath;
             image = image.drvPath;
           }}"#,
        default = file("default.nix"),
    );
    let got = nix.eval(&cross(&body));
    assert_eq!((&got["arch"], &got["builder"]), (&json!("arm64"), &json!(true)), "{got}");
    assert_eq!(got["system"], system(), "{got}");
}

/// If the caller passes the package `nixply`, images are built on the machine for which it was compiled.
#[test]
fn nixpkgs_cross_compiled_program_builds_where_it_runs() {
    let nix = harness!();
    let got = nix.eval(&format!(
        r#"let
             program = nixply // {{ system = "x86_64-linux"; stdenv.hostPlatform.system = "riscv64-linux"; }};
             image = (import {default} {{ inherit pkgs; nixply = program; usePlugin = false; }}).nix2container.buildImage {{ name = "a"; }};
           in image.system"#,
        default = file("default.nix")
    ));
    assert_eq!(got, "riscv64-linux");
}

#[test]
fn nixpkgs_cross_containers_are_copied_by_programs_of_this_machine() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    // The container's own programs belong to the other package set, so the text builders must exist there.
    let body = format!(
        r#"let
             evaluated = import {evaluate} {{
               pkgs = cross // {{ inherit (pkgs) writeShellScript runCommand; }};
               self = {directory};
               modules = [ {{ name = "p"; nixply.usePlugin = false; }} ];
             }};
             container = evaluated.config.containerBuilds.shell;
           in {{
             packer = evaluated.config.nixply.package == nixply;
             shell = evaluated.config.shell.builder == "${{pkgs.bashInteractive}}/bin/bash";
             inherit (evaluated.config.shell) system;
             inherit (container.derivation) drvPath;
             copyScript = container.copyScript.drvPath;
             dockerRun = container.dockerRun.drvPath;
             arch = container.derivation.request.arch;
           }}"#,
        evaluate = file("nix/evaluate.nix"),
        directory = directory.path().display(),
    );
    let got = nix.eval(&cross(&body));
    assert_eq!(
        (&got["packer"], &got["shell"], &got["arch"]),
        (&json!(true), &json!(true), &json!("arm64")),
        "{got}"
    );
    assert_eq!(got["system"], system(), "{got}");
}

/// Returns a Nix set with the results of all functions by name, with or without the plugin.
fn derivations(nix: &Nix, plugin: bool) -> String {
    let plain = format!(
        r#"
          image = (drop_in {plugin}).nix2container.buildImage {{ name = "Of/it"; copyToRoot = pkgs.hello; meta.description = "it"; }};
          layer = (drop_in {plugin}).nix2container.buildLayer {{ deps = [ pkgs.hello ]; }};
          fleet = (buildImages {plugin} {{ one.copyToRoot = pkgs.hello; two.copyToRoot = pkgs.bash; }}).one;
        "#
    );
    let built = r#"build-image = buildImage { name = "a"; copyToRoot = pkgs.hello; };"#;
    let packed = r#"packed = builtins.nixplyImage { name = "a"; copyToRoot = pkgs.hello; };"#;
    assert!(!plugin || nix.plugin.is_some());
    format!("{{ {plain} {} }}", if plugin { packed } else { built })
}

fn check_derivations(nix: &Nix, plugin: bool) {
    let got = nix.eval(&format!(
        r#"let
             inherit (pkgs) lib;
             shown = _: it:
               let
                 lazy = lib.lazyDerivation {{ derivation = it; outputs = it.outputs; }};
                 first = it.${{builtins.head it.outputs}};
               in {{
                 inherit (it) outputs meta;
                 same = lazy.drvPath == it.drvPath && lazy.outPath == it.outPath && lazy.meta == it.meta;
                 first = first.outPath == it.outPath || it.outputName != builtins.head it.outputs;
                 all = builtins.length it.all;
                 inputs = it.inputDerivation.type;
                 name = lib.removePrefix "inputDerivation-" it.inputDerivation.name == it.name;
               }};
           in builtins.mapAttrs shown {}"#,
        derivations(nix, plugin)
    ));
    for (name, it) in got.as_object().unwrap() {
        let outputs = match name == "fleet" && !plugin {
            true => json!(["one", "two", "one=description", "two=description"]),
            false => json!(["out", "description"]),
        };
        assert_eq!(it["outputs"], outputs, "{name}: {it}");
        assert_eq!(it["all"], outputs.as_array().unwrap().len(), "{name}: {it}");
        for equal in ["same", "first", "name"] {
            assert_eq!(it[equal], true, "{name}: {equal}: {it}");
        }
        assert_eq!(it["inputs"], "derivation", "{name}: {it}");
        let meta = &it["meta"];
        assert_eq!(meta["available"], true, "{name}: {it}");
        assert!(meta["name"].as_str().is_some_and(|name| !name.is_empty()), "{name}: {it}");
        assert_eq!(meta["outputsToInstall"], json!([outputs[0]]), "{name}: {it}");
    }
    let image = &got["image"]["meta"];
    assert_eq!((&image["description"], &image["name"]), (&json!("it"), &json!("image-it.json")), "{image}");
}

/// lib.lazyDerivation reads `outputs`, a shell reads `inputDerivation`, and others read `meta`.
#[test]
fn nixpkgs_lazy_derivation_accepts_images_and_layers() {
    check_derivations(&harness!(), false);
}

#[test]
fn nixpkgs_lazy_derivation_accepts_images_of_the_plugin() {
    check_derivations(&plugin_harness!(), true);
}

/// `inputDerivation` refers to the inputs of an image, but not to the image.
#[test]
fn nixpkgs_input_derivation_refers_to_the_inputs() {
    let nix = harness!();
    for which in ["image", "layer", "build-image"] {
        let of = |attribute: &str| format!("({}).{which}{attribute}", derivations(&nix, false));
        let inputs = nix.build(&of(".inputDerivation"));
        let wanted = nix.eval(&format!("[ \"${{pkgs.hello}}\" ({}) ]", of(".outPath")));
        let references =
            run(nix.bare_command("nix-store", "").args(["--query", "--references"]).arg(&inputs)).ok();
        let [hello, result] = [0, 1].map(|at| wanted[at].as_str().unwrap());
        assert!(references.lines().any(|path| path == hello), "{which}: {references}");
        assert!(!references.contains(result), "{which}: {references}");
    }
}
