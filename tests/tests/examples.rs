//! Every example in `examples/` builds. A directory with a `flake.nix`, a `devenv.nix` or a `default.nix` is an example. The test
//! finds new examples by itself. Tests that run examples in a container engine are in `container_run.rs`.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixply_tests::{Nix, Output, Project, harness, plugin_harness, run, skipped};
use serde_json::Value;

/// Builds an example and returns the specs of its images.
type Build = fn(&Nix, &Path) -> Vec<PathBuf>;

/// The kinds of examples: the file that the user builds, and the function that builds it. If a directory has several of these
/// files, the first in this list decides.
const KINDS: [(&str, Build); 3] =
    [("flake.nix", build_flake), ("devenv.nix", build_containers), ("default.nix", build_expression)];

/// Programs in examples that the package set lacks. Building an image does not run them.
const STAND_INS: [&str; 2] = ["flyctl", "watchexec"];

/// Finds the examples below a directory.
fn find(directory: &Path) -> Vec<(PathBuf, Build)> {
    let kind = KINDS.iter().find(|(file, _)| directory.join(file).is_file());
    if let Some((_, build)) = kind {
        return vec![(directory.to_owned(), *build)];
    }
    let mut inner: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    inner.sort();
    let is_stray = |path: &Path| !path.is_dir() && path.extension().is_none_or(|extension| extension != "md");
    let stray = inner.iter().find(|path| is_stray(path));
    assert!(
        stray.is_none() && !inner.is_empty(),
        "{} must have one of {}, or only directories with examples, got {stray:?}",
        directory.display(),
        KINDS.map(|(file, _)| file).join(", ")
    );
    inner.iter().filter(|path| path.is_dir()).flat_map(|path| find(path)).collect()
}

#[test]
fn every_example_builds() {
    let nix = harness!();
    let root = Nix::repository().join("examples");
    let examples = find(&root);
    let fails = |(directory, build): &&(PathBuf, Build)| {
        let checked = catch_unwind(|| {
            for spec in build(&nix, directory) {
                let image = run(nix.nixply().args(["inspect", "--json"]).arg(&spec)).ok();
                let image: Value = serde_json::from_str(&image).unwrap();
                assert_ne!(image["layers"].as_array().map(Vec::len), Some(0), "{}", spec.display());
            }
        });
        checked.is_err()
    };
    let failed: Vec<_> = examples.iter().filter(fails).map(|(directory, _)| directory).collect();
    assert!(failed.is_empty(), "examples that do not build: {failed:#?}");
}

/// Returns a project with a copy of the example. Its `<nixpkgs>` has the package set and this build's program.
fn project<'n>(nix: &'n Nix, directory: &Path) -> Project<'n> {
    let project = Project::empty(nix);
    project.add_files(directory);
    let stand_ins = STAND_INS.map(|name| format!("{name} = pkgs.writeShellScriptBin \"{name}\" \"exit 1\";"));
    // nix/package.nix would compile the program.
    project.set_packages(&format!(
        r#"{{
          {stand_ins}
          stdenv = pkgs.stdenv // {{ hostPlatform = pkgs.stdenv.hostPlatform // {{ isLinux = true; }}; }};
          callPackage =
            path: args:
            if baseNameOf (toString path) != "package.nix" then
              pkgs.callPackage path args
            else
              pkgs.runCommand "nixply" {{ }} ''
                mkdir -p $out/bin
                ln -s ${{builtins.path {{ path = {program}; name = "nixply"; }}}} $out/bin/nixply
              '';
        }}"#,
        stand_ins = stand_ins.join("\n"),
        program = nix.cli.display(),
    ));
    project
}

/// Runs a program of Nix in a project. Loads the plugin if `plugin` is set.
#[track_caller]
fn run_nix(nix: &Nix, project: &Project<'_>, plugin: bool, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(nix.bin.join(program));
    if plugin {
        project.prepare(&mut command);
    } else {
        project.prepare_with(&mut command, "");
    }
    run(command.args(arguments))
}

/// Builds the example's images as a user does. If it works without the plugin as well, compares the results.
fn build_expression(nix: &Nix, directory: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(directory.join("default.nix")).unwrap();
    let project = project(nix, directory);
    // The example itself, because it may refer to other files of the repository.
    let file = directory.to_str().unwrap();
    let build = |plugin: bool| -> Vec<PathBuf> {
        let built = run_nix(nix, &project, plugin, "nix-build", &["--no-out-link", file]).ok();
        built.lines().map(PathBuf::from).collect()
    };
    if text.contains("builtins.nixply") {
        if nix.plugin.is_none() {
            skipped(&format!("{file} needs the plugin, and this Nix supports no plugins"));
            return Vec::new();
        }
        return build(true);
    }
    let built = build(false);
    if nix.plugin.is_some() {
        let read = |specs: &[PathBuf]| specs.iter().map(fs::read).collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(read(&build(true)), read(&built), "{file}: the plugin must not change the specs");
    }
    built
}

/// Builds each container of the example's devenv.nix.
fn build_containers(nix: &Nix, directory: &Path) -> Vec<PathBuf> {
    let project = project(nix, directory);
    let names = format!(
        "builtins.attrNames (import {}/nix/evaluate.nix {{ pkgs = import <nixpkgs> {{ }}; self = ./.; \
         modules = [ ./devenv.nix ]; }}).config.containers",
        Nix::repository().display()
    );
    let names = run_nix(nix, &project, true, "nix", &["eval", "--impure", "--json", "--expr", &names]).ok();
    let names: Vec<String> = serde_json::from_str(&names).unwrap();
    names.iter().map(|name| project.build(name)).collect()
}

/// Builds each package and each container of the example's flake, with local inputs.
fn build_flake(nix: &Nix, directory: &Path) -> Vec<PathBuf> {
    let project = project(nix, directory);
    let inputs = tempfile::tempdir().unwrap();
    let nixpkgs = inputs.path().join("nixpkgs");
    let nixply = inputs.path().join("nixply");
    let system = nixply_tests::system();
    fs::create_dir(&nixpkgs).unwrap();
    let packages = format!(
        "{{ outputs = {{ self }}: rec {{ legacyPackages.{system} = import {} {{ }}; \
         lib = legacyPackages.{system}.lib; }}; }}",
        project.packages().display()
    );
    fs::write(nixpkgs.join("flake.nix"), packages).unwrap();
    fs::create_dir(&nixply).unwrap();
    for name in ["flake.nix", "default.nix", "nix", "Cargo.toml", "Cargo.lock"] {
        run(Command::new("cp").arg("-r").arg(Nix::repository().join(name)).arg(&nixply)).ok();
    }
    let mut text = fs::read_to_string(directory.join("flake.nix")).unwrap();
    for (url, path) in [("github:NixOS/nixpkgs/nixos-unstable", &nixpkgs), ("github:nixply/nixply", &nixply)]
    {
        assert!(text.contains(url), "{} must have the input {url}", directory.display());
        text = text.replace(url, &format!("path:{}", path.display()));
    }
    project.write("flake.nix", &text);
    let flake = format!("path:{}", project.path().display());
    let nix = |arguments: &[&str]| run_nix(nix, &project, true, "nix", arguments).ok();
    nix(&["flake", "lock", &flake]);
    let names = |output: &str| -> Vec<String> {
        let output = format!("{flake}#{output}.{system}");
        let names = nix(&["eval", "--impure", "--json", "--apply", "builtins.attrNames", &output]);
        serde_json::from_str(&names).unwrap()
    };
    let build = |name: &String| {
        let package = format!("{flake}#packages.{system}.{name}");
        let link = inputs.path().join(name);
        nix(&["build", "--impure", "--out-link", link.to_str().unwrap(), &package]);
        fs::canonicalize(link).unwrap()
    };
    let mut specs: Vec<PathBuf> = names("packages").iter().map(build).collect();
    specs.extend(names("containers").iter().map(|name| project.build(name)));
    specs
}

#[test]
fn the_readme_shows_the_python_example() {
    let read = |file: &str| fs::read_to_string(Nix::repository().join(file)).unwrap();
    let readme = read("README.md");
    let shown = readme
        .split("```nix\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("it has a Nix block");
    // The README has one line instead of the file's comment and function head.
    let body =
        |text: &str| text[text.find("builtins.nixplyImage").expect("it calls the builtin")..].to_owned();
    assert_eq!(body(shown), body(&read("examples/images/python/default.nix")));
    assert!(shown.lines().count() <= 16, "the README's example is too long");
}

#[test]
fn the_python_example_has_its_layers_and_entrypoint() {
    let nix = plugin_harness!();
    let example = Nix::repository().join("examples/images/python");
    let built = nix.build(&format!("import {} {{ inherit pkgs; }}", example.display()));
    let spec: Value = serde_json::from_str(&fs::read_to_string(built).unwrap()).unwrap();
    assert_eq!(spec["layers"].as_array().unwrap().len(), 20);
    let program = spec["image-config"]["Entrypoint"][0].as_str().unwrap();
    assert!(program.ends_with("/bin/python3"), "{program}");
}
