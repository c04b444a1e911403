//! `push` of images: a script that sends the image to a real registry, without skopeo.

use std::path::Path;
use std::process::Command;

use nixply_tests::engines::{Directory, Registry, json, sha256, unique};
use nixply_tests::{Nix, Output, expression, harness, needs, run};

/// Images and image indexes of all functions: expressions with `NAME` and `PLUGIN`.
const IMAGES: [&str; 5] = [
    "(import REPOSITORY/nix/build-image.nix { inherit nixply; usePlugin = PLUGIN; }) \
     { name = \"NAME\"; tag = \"t\"; config.entrypoint = [ \"${pkgs.hello}/bin/hello\" ]; }",
    "((import REPOSITORY/nix/build-images.nix { inherit nixply; usePlugin = PLUGIN; }) \
     { a = { name = \"NAME\"; tag = \"t\"; copyToRoot = pkgs.hello; }; b = { copyToRoot = pkgs.hello; }; }).a",
    "(drop_in PLUGIN).nix2container.buildImage \
     { name = \"NAME\"; tag = \"t\"; copyToRoot = pkgs.hello; }",
    "(import REPOSITORY/nix/build-index.nix { inherit nixply; usePlugin = PLUGIN; }) \
     { name = \"NAME\"; tag = \"t\"; images = [ ((drop_in PLUGIN).nix2container.buildImage { name = \"i\"; }) ]; }",
    "let n2c = (drop_in PLUGIN).nix2container; in n2c.buildIndex \
     { name = \"NAME\"; tag = \"t\"; images = [ (n2c.buildImage { name = \"i\"; }) ]; }",
];

/// Those that are images.
const FIRST_INDEX: usize = 3;

/// Returns the expression of an image.
fn image(text: &str, name: &str, plugin: bool) -> String {
    let repository = Nix::repository().display().to_string();
    let text = text.replace("NAME", name).replace("PLUGIN", if plugin { "true" } else { "false" });
    format!("({})", text.replace("REPOSITORY", &repository))
}

/// Runs a script. The user has no credentials, and no skopeo.
fn push(nix: &Nix, script: &Path, home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(script.join("bin/push"));
    command
        .args(arguments)
        .env_clear()
        .envs(nix.environment(""))
        .env("HOME", home)
        .env("PATH", "/nonexistent");
    run(&mut command)
}

/// Returns what a function without and with the plugin must do.
fn frontends(nix: &Nix) -> Vec<bool> {
    [Some(false), nix.plugin.as_ref().map(|_| true)].into_iter().flatten().collect()
}

#[test]
fn scripts_push_to_the_images_own_name_or_to_the_given_one() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let directory = Directory::new();
    for plugin in frontends(&nix) {
        for text in &IMAGES[..FIRST_INDEX] {
            let (own, other) = (unique("-push-script"), unique("-push-script-other"));
            let image = image(text, &format!("{}/{own}", registry.address), plugin);
            let script = nix.build(&format!("{image}.push"));
            let said = push(&nix, &script, directory.path(), &[]).ok();
            let manifest = registry.get(&own, "manifests", "t");
            assert_eq!(said, format!("{}/{own}:t@{}", registry.address, sha256(&manifest)), "{text}");
            let spec = nix.build(&format!("{image}.out or {image}"));
            let inspected = json(&run(nix.nixply().args(["inspect", "--json"]).arg(spec)).ok());
            let manifest = json(std::str::from_utf8(&manifest).unwrap());
            assert_eq!(manifest["config"]["digest"], inspected["imageId"], "{text}");

            let to = format!("{}/{other}:1.0", registry.address);
            let said = push(&nix, &script, directory.path(), &["--quiet", &to, "--tag", "a", "--tag", "b"]);
            assert_eq!(said.stderr, "", "{text}");
            assert_eq!(said.ok().lines().count(), 2, "{text}");
            assert_eq!(registry.get(&other, "manifests", "a"), registry.get(&own, "manifests", "t"));
            assert_eq!(registry.get(&other, "manifests", "b"), registry.get(&own, "manifests", "t"));
        }
    }
}

#[test]
fn scripts_of_images_without_a_registry_need_a_destination() {
    let nix = harness!();
    let directory = Directory::new();
    for plugin in frontends(&nix) {
        for text in IMAGES {
            let script = nix.build(&format!("{}.push", image(text, "team/hello", plugin)));
            let said = push(&nix, &script, directory.path(), &[]);
            assert_eq!(
                (said.code, &*said.stdout, &*said.stderr),
                (
                    Some(2),
                    "",
                    "error: the image has the name team/hello:t, which begins with no registry\n\
                     hint: pass the destination, as in nix run .#image.push -- ghcr.io/team/hello:t\n"
                ),
                "{text}"
            );
            // `nix run` finds the program by the package's attributes.
            let meta = nix.eval(&format!("{}.push.meta.mainProgram", image(text, "hello", plugin)));
            assert_eq!(meta, "push");
        }
    }
}

/// The default builder of images needs the program as well.
#[test]
fn images_without_the_program_evaluate_and_their_script_is_an_error() {
    let nix = harness!();
    for plugin in frontends(&nix) {
        for text in [IMAGES[0], IMAGES[1], IMAGES[3]] {
            let without = image(text, "hello", plugin).replace("inherit nixply;", "builder = program;");
            assert_eq!(nix.eval(&format!("{without}.imageName")), "hello");
            let said = run(nix
                .command("nix-instantiate")
                .args(["-E", &expression(&nix, &format!("{without}.push"))]));
            let said = said.fails();
            assert!(
                said.contains(
                    "nixply: `push` runs the nixply program: pass its package, as in `import ./nix/build-image.nix { nixply = ...; }`"
                ),
                "{said}"
            );
        }
    }
}
