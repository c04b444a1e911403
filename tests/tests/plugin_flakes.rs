//! Flakes: pure evaluation, and evaluation that must not build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixply_tests::{Nix, Output, harness, plugin_harness, run, system};
use serde_json::Value;
use tempfile::TempDir;

/// The package `default` uses the plugin, and `builder` the builder frontend. `plain` needs no builds.
const FLAKE: &str = r#"{
  outputs =
    { self }:
    let
      system = "SYSTEM";
      pkgs = import ./packages { lock = builtins.fromJSON (builtins.readFile ./lock.json); };
      image = {
        name = "flake";
        config.Entrypoint = [ "${pkgs.hello}/bin/hello" ];
        copyToRoot = [ ./root ];
      };
      plain = { name = "plain"; copyToRoot = ./root; };
    in
    {
      packages.${system} = {
        default = builtins.nixplyImage image;
        builder = import ./build-image.nix { nixply = ./package; usePlugin = false; inherit system; } image;
        plain = builtins.nixplyImage plain;
      };
      plan.${system} = builtins.nixplyPlan image;
    };
}
"#;

struct Flake {
    directory: TempDir,
}

impl Flake {
    /// Creates a project with its own copies of the package set and of the functions in nix/.
    fn new(nix: &Nix) -> Self {
        let directory = TempDir::with_prefix("nixply-flake-").unwrap();
        let flake = Self { directory };
        let repository = Nix::repository();
        fs::write(flake.path("flake.nix"), FLAKE.replace("SYSTEM", &system())).unwrap();
        fs::copy(&nix.lock, flake.path("lock.json")).unwrap();
        for file in ["arguments.json", "arguments.nix", "build-image.nix", "check.nix", "derivation.nix"] {
            fs::copy(repository.join("nix").join(file), flake.path(file)).unwrap();
        }
        run(Command::new("cp").arg("-r").arg(repository.join("tests/packages")).arg(flake.path("packages")))
            .ok();
        fs::create_dir_all(flake.path("package/bin")).unwrap();
        fs::copy(&nix.cli, flake.path("package/bin/nixply")).unwrap();
        fs::create_dir(flake.path("root")).unwrap();
        fs::write(flake.path("root/motd"), "hello\n").unwrap();
        flake
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `nix VERB path:DIRECTORY#ATTRIBUTE`.
    fn nix(&self, nix: &Nix, verb: &[&str], attribute: &str) -> Output {
        let mut command = nix.command("nix");
        // The evaluation cache also keeps failures of evaluations with other settings.
        command.args(verb).args(["--option", "eval-cache", "false"]);
        command.arg(format!("path:{}#{attribute}", self.directory.path().display()));
        run(command.current_dir(self.directory.path()))
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn image_is_a_package_of_a_flake() {
    let nix = plugin_harness!();
    let flake = Flake::new(&nix);
    let out = tempfile::tempdir().unwrap();
    let [result, builder] = ["result", "builder"].map(|name| out.path().join(name));
    flake.nix(&nix, &["build", "--out-link", result.to_str().unwrap()], "").ok();
    flake.nix(&nix, &["build", "--out-link", builder.to_str().unwrap()], "builder").ok();
    assert_eq!(read(&result), read(&builder));
    let spec: Value = serde_json::from_str(&read(&result)).unwrap();
    assert!(spec["image-config"]["Entrypoint"][0].as_str().unwrap().ends_with("/bin/hello"), "{spec}");
    let plan = flake.nix(&nix, &["eval", "--json"], &format!("plan.{}", system())).ok();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let paths: Vec<_> =
        spec["layers"][0]["paths"].as_array().unwrap().iter().map(|path| &path["path"]).collect();
    assert_eq!(plan[0]["paths"].as_array().unwrap().iter().collect::<Vec<_>>(), paths);
    let mut layout = nix.nixply();
    run(layout.arg("layout").arg(&result).arg(out.path().join("layout"))).ok();
}

#[test]
fn evaluation_that_must_not_build_fails_with_a_hint() {
    let nix = plugin_harness!();
    let flake = Flake::new(&nix);
    let forbid = ["--option", "allow-import-from-derivation", "false"];
    let no_link = [&["build", "--no-link"], &forbid[..]].concat();
    let attribute = format!("plan.{}", system());
    for (verb, attribute, builtin) in [
        (&no_link, "", "nixplyImage"),
        (&[&["eval"], &forbid[..]].concat(), attribute.as_str(), "nixplyPlan"),
    ] {
        let error = flake.nix(&nix, verb, attribute).fails();
        let want = format!(
            "builtins.{builtin} builds its inputs while it is evaluated, which the setting 'allow-import-from-derivation = \
             false' forbids: allow it, or build the image in a derivation (nix/build-image.nix with usePlugin = false), which \
             needs no plugin; Nix says: "
        );
        assert!(error.contains(&want), "{error}");
        assert!(error.contains("/flake.nix:"), "{error}");
    }
    // Paths that are already in the store may be packed.
    flake.nix(&nix, &no_link, "plain").ok();
}

/// The evaluation cache of flakes keeps errors of expressions, but an error of a setting must not be kept,
/// because the setting may change.
#[test]
fn errors_of_settings_are_not_kept_by_the_evaluation_cache() {
    let nix = plugin_harness!();
    let flake = Flake::new(&nix);
    let cache = TempDir::new().unwrap();
    let build = |more: &[&str]| {
        let mut command = nix.command("nix");
        command.env("XDG_CACHE_HOME", cache.path()).args([
            "build",
            "--no-link",
            "--option",
            "eval-cache",
            "true",
        ]);
        command.args(more).arg(format!("path:{}#", flake.directory.path().display()));
        run(command.current_dir(flake.directory.path()))
    };
    let forbid = ["--option", "allow-import-from-derivation", "false"];
    for _ in 0..2 {
        let error = build(&forbid).fails();
        assert!(error.contains("allow it, or build the image in a derivation"), "{error}");
    }
    build(&[]).ok();
}

#[test]
fn builder_frontend_does_not_build_during_evaluation() {
    let nix = harness!();
    let flake = Flake::new(&nix);
    let arguments = ["build", "--no-link", "--option", "allow-import-from-derivation", "false"];
    flake.nix(&nix, &arguments, "builder").ok();
}
