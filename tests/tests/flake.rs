//! The project's flake as a replacement of nix2container, and containers in flakes and in devenv, with the
//! tests' package set as nixpkgs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixply_tests::{Nix, Output, harness, plugin_harness, run, system};
use serde_json::Value;
use tempfile::TempDir;

/// A user's flake that was written for nix2container. `broken` cannot be built, so nothing may try to build
/// it.
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

/// A flake that declares its containers.
const CONTAINERS: &str = r#"{
  inputs = {
    nixpkgs.url = "path:NIXPKGS";
    nixply.url = "path:NIXPLY";
    nixply.inputs.nixpkgs.follows = "nixpkgs";
  };
  outputs =
    { self, nixpkgs, nixply }:
    {
      containers.SYSTEM = nixply.lib.containers {
        inherit self;
        pkgs = nixpkgs.legacyPackages.SYSTEM;
        modules = [ ./devenv.nix ];
      };
    };
}
"#;

/// A flake with a stand-in for devenv's modules, and with a project's devenv.nix. It builds containers like
/// devenv's program. `structured` is a container whose shell has structured attributes.
const DEVENV: &str = r#"{
  inputs = {
    nixpkgs.url = "path:NIXPKGS";
    devenv.url = "path:DEVENV";
    nixply.url = "path:NIXPLY";
    nixply.inputs.nixpkgs.follows = "nixpkgs";
  };
  outputs =
    { self, nixpkgs, ... }@inputs:
    let
      inherit (nixpkgs) lib;
      evaluate =
        structuredAttrs:
        lib.evalModules {
          specialArgs = inputs // { inherit inputs; };
          modules = [
            (inputs.devenv.modules + "/top-level.nix")
            {
              _module.args.pkgs = nixpkgs.legacyPackages.SYSTEM;
              devenv.root = "/home/user/project";
              inherit structuredAttrs;
            }
            ./devenv.nix
          ];
        };
      build =
        evaluation: name:
        (evaluation.extendModules {
          modules = [
            {
              container.isBuilding = lib.mkForce true;
              containers.${name}.isBuilding = lib.mkForce true;
            }
          ];
        }).config.containers.${name};
    in
    {
      plain = (evaluate false).config;
      containers.SYSTEM = lib.genAttrs [ "shell" "processes" "web" ] (build (evaluate false)) // {
        structured = build (evaluate true) "web";
      };
    };
}
"#;

struct Flakes {
    directory: TempDir,
}

impl Flakes {
    fn new(nix: &Nix) -> Self {
        let directory = TempDir::with_prefix("nixply-flakes-").unwrap();
        let flakes = Self { directory };
        let repository = Nix::repository();
        let copy = |from: &str, to: &str| {
            let to = flakes.path(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            run(Command::new("cp").arg("-r").arg(repository.join(from)).arg(to)).ok();
        };
        copy("tests/nix2container/nixpkgs.nix", "nixpkgs/flake.nix");
        copy("tests/packages", "nixpkgs/packages");
        fs::copy(&nix.lock, flakes.path("nixpkgs/lock.json")).unwrap();
        fs::copy(&nix.cli, flakes.path("nixpkgs/nixply")).unwrap();
        for file in ["flake.nix", "default.nix", "nix", "Cargo.toml", "Cargo.lock"] {
            copy(file, &format!("nixply/{file}"));
        }
        copy("tests/devenv", "devenv");
        flakes.write("user/flake.nix", FLAKE);
        flakes
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file and replaces the names in capitals by the flakes' paths and the machine's system.
    fn write(&self, name: &str, text: &str) {
        let place = |name: &str| self.path(name).display().to_string();
        let text = text
            .replace("SYSTEM", &system())
            .replace("DEVENV", &place("devenv"))
            .replace("NIXPKGS", &place("nixpkgs"))
            .replace("NIXPLY", &place("nixply"));
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs `nixply container` in a flake's directory. Creates the lock file first, because Nix writes none
    /// for an expression.
    fn container(&self, nix: &Nix, flake: &str, arguments: &[&str]) -> Output {
        if !self.path(flake).join("flake.lock").exists() {
            self.nix(nix.bare_command("nix", ""), &["flake", "lock"], flake, &[]).ok();
        }
        run(nix.nixply().current_dir(self.path(flake)).arg("container").args(arguments))
    }

    fn nix(&self, mut command: Command, verb: &[&str], flake: &str, more: &[&str]) -> Output {
        command.args(verb).args(["--option", "eval-cache", "false"]).args(more);
        run(command
            .arg(format!("path:{}/{flake}", self.directory.path().display()))
            .current_dir(self.directory.path()))
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn flake_for_nix2container_builds_with_nixply_as_its_input() {
    let nix = harness!();
    let flakes = Flakes::new(&nix);
    let out = tempfile::tempdir().unwrap();
    let mut built = Vec::new();
    for (at, command) in [nix.bare_command("nix", ""), nix.command("nix")].into_iter().enumerate() {
        let link = out.path().join(at.to_string());
        flakes.nix(command, &["build"], "user", &["--out-link", link.to_str().unwrap()]).ok();
        built.push(read(&link));
    }
    assert_eq!(built[0], built[1], "the plugin must not change the spec");
    let spec: Value = serde_json::from_str(&built[0]).unwrap();
    assert_eq!(spec["layers"].as_array().unwrap().len(), 2, "{spec}");
}

#[test]
fn nix_flake_show_packs_nothing() {
    let nix = plugin_harness!();
    let flakes = Flakes::new(&nix);
    let shown = flakes.nix(nix.command("nix"), &["flake", "show", "--json"], "user", &[]);
    let messages = shown.stderr.clone();
    let shown: Value = serde_json::from_str(&shown.ok()).unwrap();
    let packages = &shown["packages"][system()];
    assert_eq!(packages["default"]["name"], "image-hello.json", "{shown}");
    assert_eq!(packages["broken"]["name"], "image-broken.json", "{shown}");
    assert!(!messages.contains("packing") && !messages.contains("building"), "{messages}");
}

/// The flake has the outputs of nix2container's flake, for those of its systems that nixpkgs supports. It also
/// has plugins, for the Nix versions that support them.
#[test]
fn flake_has_nix2containers_outputs() {
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
    // This nixpkgs does not support x86_64-darwin.
    assert_eq!(systems, ["aarch64-darwin", "aarch64-linux", "x86_64-linux"]);
    for (system, packages) in shown.as_object().unwrap() {
        let names: Vec<_> = packages.as_object().unwrap().keys().collect();
        let mut expected = vec!["default", "nix2container", "nix2container-bin", "nixply"];
        if system.ends_with("-linux") {
            expected.extend(["nixply-plugin", "nixply-plugin-nix_2_31"]);
        }
        expected.push("skopeo-nix2container");
        assert_eq!(names, expected, "{system}");
        assert!(packages.as_object().unwrap().values().all(|kind| kind == "derivation"), "{packages}");
    }
    // The program that `nix run` starts.
    let main = flakes.nix(
        nix.bare_command("nix", ""),
        &["eval", "--json", "--apply", "packages: map (package: package.meta.mainProgram) [ packages.nix2container-bin packages.default ]"],
        &format!("nixply#packages.{}", system()),
        &["--override-input", "nixpkgs", &nixpkgs],
    );
    assert_eq!(main.ok(), r#"["nix2container","nixply"]"#);
}

#[test]
fn package_has_completions_and_man_pages() {
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

#[test]
fn flake_declares_containers() {
    let nix = harness!();
    let flakes = Flakes::new(&nix);
    flakes.write("project/flake.nix", CONTAINERS);
    flakes.write(
        "project/devenv.nix",
        r#"{ config, ... }: {
          name = "Project";
          env.BUILDING = config.containers.web.isBuilding;
          containers.web.startupCommand = [ "serve" ];
        }"#,
    );
    let container = |arguments: &[&str]| flakes.container(&nix, "project", arguments);

    let spec = container(&["build", "web"]).ok();
    let image: Value = serde_json::from_str(&read(Path::new(&spec))).unwrap();
    let config = &image["image-config"];
    assert_eq!(config["Cmd"], serde_json::json!(["serve"]), "{image}");
    assert!(config["Env"].as_array().unwrap().contains(&"BUILDING=1".into()), "{image}");
    // The result link is in the flake's directory, but not in the source of the build.
    assert!(flakes.path("project/.devenv/gc/container-web-derivation").is_symlink());
    let built: Value = serde_json::from_str(&container(&["build", "web", "--json"]).ok()).unwrap();
    assert_eq!(built["spec"], spec.as_str());
    assert_eq!(built["reference"], "project-web:latest");

    let error = container(&["build", "wep"]).fails();
    assert!(error.contains("the project has processes, shell, web"), "{error}");
}

/// Files that git does not track may be secret: neither the store nor the container gets them.
#[test]
fn flake_in_git_contains_only_tracked_files() {
    let nix = harness!();
    let flakes = Flakes::new(&nix);
    flakes.write("project/flake.nix", CONTAINERS);
    flakes.write("project/devenv.nix", "{ }");
    flakes.write("project/.gitignore", "secret\n.devenv\n");
    flakes.write("project/secret", "a secret");
    // Before `git init`, this also creates the missing flake.lock.
    flakes.container(&nix, "project", &["build", "shell"]).ok();
    for arguments in [&["init", "--quiet"][..], &["add", "--all"]] {
        nixply_tests::run(Command::new("git").args(arguments).current_dir(flakes.path("project"))).ok();
    }
    let spec = flakes.container(&nix, "project", &["build", "shell"]).ok();
    let spec: Value = serde_json::from_str(&read(Path::new(&spec))).unwrap();
    let layers = spec["layers"].as_array().unwrap().iter();
    let paths = layers.flat_map(|layer| layer["paths"].as_array().cloned().unwrap_or_default());
    let home = paths
        .map(|path| path["path"].as_str().unwrap().to_owned())
        .find(|path| path.ends_with("-container-home"));
    let home = Path::new(&home.unwrap()).join("env");
    assert!(home.join("devenv.nix").is_file() && home.join(".gitignore").is_file());
    assert!(!home.join("secret").exists() && !home.join(".git").exists());
}

/// The evaluated flake is a copy in the store, but the command writes the lock file of the project.
#[test]
fn lock_file_of_a_flake_is_written_to_the_project() {
    let nix = harness!();
    let flakes = Flakes::new(&nix);
    // A flake below the root of git's working tree.
    flakes.write("project/app/flake.nix", CONTAINERS);
    flakes.write(
        "project/app/devenv.nix",
        r#"{ name = "app"; containers.web = { copyToRoot = null; maxLayers = 3; lock = ./locks/nixply.lock.json; }; }"#,
    );
    flakes.write("project/app/locks/README", "");
    flakes.write("project/.gitignore", ".devenv\n");
    flakes.nix(nix.bare_command("nix", ""), &["flake", "lock"], "project/app", &[]).ok();
    let git = |arguments: &[&str]| {
        nixply_tests::run(Command::new("git").args(arguments).current_dir(flakes.path("project"))).ok()
    };
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    let container = |arguments: &[&str]| flakes.container(&nix, "project/app", arguments);
    let file = flakes.path("project/app/locks/nixply.lock.json");
    let missing = container(&["build", "web"]).fails();
    assert!(
        missing.contains(
            "does not exist; create it with `nixply container lock web`, and if the project is a flake in a git repository, `git add` the file"
        ),
        "{missing}"
    );
    container(&["lock", "web"]).ok();
    let lock: Value = serde_json::from_str(&read(&file)).unwrap();
    assert_eq!(lock["images"], serde_json::json!({"web": 3}));
    git(&["add", "--all"]);
    let spec: Value = serde_json::from_str(&read(Path::new(&container(&["build", "web"]).ok()))).unwrap();
    // The layers of the environment, the home directory and the Nix database.
    assert_eq!(spec["layers"].as_array().unwrap().len(), lock["layers"].as_array().unwrap().len() + 2);
}

/// If there is a flake without `containers` next to a devenv.nix, the environment uses the flake's nixpkgs.
#[test]
fn flake_determines_the_nixpkgs_of_devenv_nix() {
    let nix = harness!();
    let flakes = Flakes::new(&nix);
    flakes.write(
        "project/flake.nix",
        r#"{ inputs.nixpkgs.url = "path:NIXPKGS"; outputs = { self, nixpkgs }: { }; }"#,
    );
    let packages = read(&flakes.path("nixpkgs/flake.nix"));
    let more = packages.replacen("boost = set.zlib;", "boost = set.zlib; nix_of_the_flake = \"flake\";", 1);
    assert_ne!(packages, more);
    fs::write(flakes.path("nixpkgs/flake.nix"), more).unwrap();
    flakes.write(
        "project/devenv.nix",
        r#"{ pkgs, ... }: { name = pkgs.nix_of_the_flake; containers.web = { }; }"#,
    );
    let built = flakes.container(&nix, "project", &["build", "web", "--json"]).ok();
    let built: Value = serde_json::from_str(&built).unwrap();
    assert_eq!(built["reference"], "flake-web:latest");
}

/// nixply's module replaces devenv's module for containers, and works with devenv's other modules.
#[test]
fn module_works_in_devenv() {
    let nix = harness!();
    let flakes = Flakes::new(&nix);
    flakes.write("project/flake.nix", DEVENV);
    flakes.write(
        "project/devenv.nix",
        r#"{ config, inputs, ... }: {
          imports = [ inputs.nixply.devenvModules.containers ];
          name = "project";
          env.TWO = "a\nb";
          env.BUILDING = "${toString config.container.isBuilding}:${toString config.containers.web.isBuilding}";
          containers.web.startupCommand = "serve";
          containers.web.copyToRoot = null;
        }"#,
    );

    for (name, building) in [("shell", "1:"), ("processes", "1:"), ("web", "1:1"), ("structured", "1:1")] {
        let spec = flakes.container(&nix, "project", &["build", name]).ok();
        let image: Value = serde_json::from_str(&read(Path::new(&spec))).unwrap();
        let config = &image["image-config"];
        let variables = config["Env"].as_array().unwrap();
        for expected in ["NOTHING=", "TWO=a\nb", "HOME=/env", "USER=user"] {
            assert!(variables.contains(&expected.into()), "{name}: {expected}: {image}");
        }

        // Enters the shell like the start of a container, but without the variables of the image's config.
        let entrypoint = config["Entrypoint"].as_array().unwrap();
        let mut entrypoint = entrypoint.iter().map(|word| word.as_str().unwrap());
        let mut enter = Command::new(entrypoint.next().unwrap());
        enter.args(entrypoint).arg("env --null").env_clear().env("TMPDIR", flakes.directory.path());
        let entered = run(&mut enter).ok();
        let variables: Vec<&str> = entered.split('\0').collect();
        let building = format!("BUILDING={building}");
        for expected in [
            building.as_str(),
            "DEVENV_ROOT=/env",
            "DEVENV_DOTFILE=/env/.devenv",
            "DEVENV_STATE=/env/.devenv/state",
            "DEVENV_RUNTIME=/tmp/devenv",
            "TWO=a\nb",
            // The result of a shell function with its arrays.
            "GREETING=hello two words 2",
        ] {
            assert!(variables.contains(&expected), "{name}: {expected}: {entered}");
        }
        assert!(!entered.contains("CONTAINERS_OF="), "{name}: devenv's own module is loaded: {entered}");
    }

    // Outside of containers, `isBuilding` is false. The task of `devenv container copy` exists.
    let plain = flakes.nix(
        nix.bare_command("nix", ""),
        &[
            "eval",
            "--json",
            "--apply",
            "it: [ it.env.BUILDING it.env.DEVENV_ROOT (builtins.attrNames it.tasks) ]",
        ],
        "project#plain",
        &[],
    );
    assert_eq!(plain.ok(), r#"[":","/home/user/project",["devenv:container:copy"]]"#);
}
