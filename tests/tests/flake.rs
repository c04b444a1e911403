//! The project's flake in nix2container's place, with the tests' package set for nixpkgs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixply_tests::{Nix, Output, harness, plugin_harness, run};
use serde_json::Value;
use tempfile::TempDir;

/// A user's flake, as it was with nix2container. `broken` cannot be built, so nothing may try.
const FLAKE: &str = r#"{
  inputs = {
    nixpkgs.url = "path:NIXPKGS";
    nix2container.url = "path:NIXPLY";
    nix2container.inputs.nixpkgs.follows = "nixpkgs";
  };
  outputs =
    { self, nixpkgs, nix2container }:
    let
      system = "SYSTEM";
      pkgs = nixpkgs.legacyPackages.${system};
      inherit (nix2container.packages.${system}.nix2container) buildImage buildLayer;
    in
    {
      packages.${system} = {
        default = buildImage {
          name = "hello";
          config.entrypoint = [ "${pkgs.hello}/bin/hello" ];
          layers = [ (buildLayer { deps = [ pkgs.glibc ]; }) ];
        };
        broken = buildImage { name = "broken"; copyToRoot = pkgs.runCommand "broken" { } "exit 1"; };
      };
    };
}
"#;

struct Flakes {
    folder: TempDir,
}

impl Flakes {
    fn new(nix: &Nix) -> Self {
        let folder = TempDir::with_prefix("nixply-flakes-").unwrap();
        let flakes = Self { folder };
        let repository = Nix::repository();
        let copy = |from: &str, to: &str| {
            let to = flakes.path(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            run(Command::new("cp").arg("-r").arg(repository.join(from)).arg(to)).ok();
        };
        copy("tests/nix2container/nixpkgs.nix", "nixpkgs/flake.nix");
        copy("nix/packages", "nixpkgs/packages");
        fs::copy(&nix.lock, flakes.path("nixpkgs/lock.json")).unwrap();
        fs::copy(&nix.cli, flakes.path("nixpkgs/nixply")).unwrap();
        for file in ["flake.nix", "default.nix", "nix", "Cargo.toml", "Cargo.lock"] {
            copy(file, &format!("nixply/{file}"));
        }
        let place = |name: &str| flakes.path(name).display().to_string();
        let flake = FLAKE.replace("NIXPKGS", &place("nixpkgs")).replace("NIXPLY", &place("nixply"));
        fs::create_dir(flakes.path("user")).unwrap();
        fs::write(flakes.path("user/flake.nix"), flake.replace("SYSTEM", &system())).unwrap();
        flakes
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn nix(&self, mut command: Command, verb: &[&str], flake: &str, more: &[&str]) -> Output {
        command.args(verb).args(["--option", "eval-cache", "false"]).args(more);
        run(command
            .arg(format!("path:{}/{flake}", self.folder.path().display()))
            .current_dir(self.folder.path()))
    }
}

fn system() -> String {
    format!("{}-linux", std::env::consts::ARCH)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_user_changes_the_input_alone() {
    let nix = harness!();
    let flakes = Flakes::new(&nix);
    let out = tempfile::tempdir().unwrap();
    let mut built = Vec::new();
    for (at, command) in [nix.bare_command("nix", ""), nix.command("nix")].into_iter().enumerate() {
        let link = out.path().join(at.to_string());
        flakes.nix(command, &["build"], "user", &["--out-link", link.to_str().unwrap()]).ok();
        built.push(read(&link));
    }
    assert_eq!(built[0], built[1], "without the plugin and, where there is one, with it");
    let spec: Value = serde_json::from_str(&built[0]).unwrap();
    assert_eq!(spec["layers"].as_array().unwrap().len(), 2, "{spec}");
}

#[test]
fn nix_flake_show_packs_nothing() {
    let nix = plugin_harness!();
    let flakes = Flakes::new(&nix);
    let shown = flakes.nix(nix.command("nix"), &["flake", "show", "--json"], "user", &[]);
    let told = shown.stderr.clone();
    let shown: Value = serde_json::from_str(&shown.ok()).unwrap();
    let packages = &shown["packages"][system()];
    assert_eq!(packages["default"]["name"], "image-hello.json", "{shown}");
    assert_eq!(packages["broken"]["name"], "image-broken.json", "{shown}");
    assert!(!told.contains("packing") && !told.contains("building"), "{told}");
}

/// The names that nix2container's flake has, for the four systems that it has, and plugins for the supported Nix versions.
#[test]
fn the_flake_has_nix2containers_outputs() {
    let nix = harness!();
    let flakes = Flakes::new(&nix);
    let nixpkgs = format!("path:{}", flakes.path("nixpkgs").display());
    let shown = flakes.nix(
        nix.bare_command("nix", ""),
        &[
            "eval",
            "--json",
            "--apply",
            "packages: builtins.mapAttrs (_: builtins.mapAttrs (_: package: package.type)) packages",
        ],
        "nixply#packages",
        &["--override-input", "nixpkgs", &nixpkgs],
    );
    let shown: Value = serde_json::from_str(&shown.ok()).unwrap();
    let systems: Vec<_> = shown.as_object().unwrap().keys().collect();
    assert_eq!(systems, ["aarch64-darwin", "aarch64-linux", "x86_64-darwin", "x86_64-linux"]);
    for (_, packages) in shown.as_object().unwrap() {
        let names: Vec<_> = packages.as_object().unwrap().keys().collect();
        let expected = [
            "default",
            "nix2container",
            "nix2container-bin",
            "nixply",
            "nixply-plugin",
            "nixply-plugin-nix_2_31",
            "skopeo-nix2container",
        ];
        assert_eq!(names, expected);
        assert!(packages.as_object().unwrap().values().all(|kind| kind == "derivation"), "{packages}");
    }
    // What `nix run` starts.
    let main = flakes.nix(
        nix.bare_command("nix", ""),
        &["eval", "--json", "--apply", "packages: map (package: package.meta.mainProgram) [ packages.nix2container-bin packages.default ]"],
        &format!("nixply#packages.{}", system()),
        &["--override-input", "nixpkgs", &nixpkgs],
    );
    assert_eq!(main.ok(), r#"["nix2container","nixply"]"#);
}

/// Man pages and completions come with the program.
#[test]
fn the_package_has_what_shells_and_man_read() {
    let nix = harness!();
    let flakes = Flakes::new(&nix);
    let nixpkgs = format!("path:{}", flakes.path("nixpkgs").display());
    let out = tempfile::tempdir().unwrap();
    let link = out.path().join("nixply");
    let build = ["build", "--override-input", "nixpkgs", &nixpkgs, "--out-link", link.to_str().unwrap()];
    flakes
        .nix(nix.bare_command("nix", ""), &build, &format!("nixply#packages.{}.default", system()), &[])
        .ok();
    for page in ["nixply", "nixply-build", "nixply-cache-stat"] {
        assert!(read(&link.join(format!("share/man/man1/{page}.1"))).contains(&format!(".TH {page} 1")));
    }
    for (shell, word) in
        [("bash", "complete -F _nixply"), ("fish", "complete -c nixply"), ("zsh", "#compdef nixply")]
    {
        assert!(read(&link.join(format!("completions/nixply.{shell}"))).contains(word), "{shell}");
    }
}
