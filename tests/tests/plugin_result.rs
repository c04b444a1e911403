//! The result of `builtins.nixplyImage`: a derivation for `nix build`, a store path that keeps its closure
//! alive, and data.

use std::collections::BTreeSet;
use std::fs;

use nixply_tests::{Private, plugin_harness, run, system};
use serde_json::{Value, json};

/// The config refers to `a`, which refers to `base`; `b` is at the root, `c` in a layer.
const IMAGE: &str = r#"rec {
    base = sh "base" "echo base > $out";
    a = sh "a" "mkdir $out; echo ${base} > $out/a";
    b = sh "b" "mkdir $out; echo b > $out/b";
    c = sh "c" "echo c > $out";
    # Characters that a shell or JSON could change.
    odd = "  \\n%s %% \\\\ \" <&> é $out `id` 'x' ";
    image = builtins.nixplyImage {
      name = "Registry/Some-Image";
      config = { Entrypoint = [ "${a}/a" ]; Env = [ "ODD=${odd}" ]; };
      copyToRoot = b;
      layers = [ { deps = [ c ]; } ];
    };
    tagged = builtins.nixplyImage { name = "x"; tag = "v1"; copyToRoot = b; };
    names = { path = image.outPath; inherit (image) imageName imageTag name type system outputName; tagged = tagged.imageTag; };
    context = builtins.getContext "${image}";
    inside = sh "inside" "while read -r line; do echo \"$line\"; done < ${image} > $out";
  }"#;

/// Returns the path and the text of the image's spec.
fn spec(nix: &Private, file: &std::path::Path) -> (String, String) {
    let path = nix.eval_file(file, "image.outPath").ok().trim_matches('"').to_owned();
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

/// Returns every store path in a text.
fn store_paths(nix: &Private, text: &str) -> BTreeSet<String> {
    let prefix = format!("{}/", nix.store_dir().display());
    let end = |rest: &str| {
        rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._?=".contains(c))).unwrap_or(rest.len())
    };
    text.split(&prefix).skip(1).map(|rest| format!("{prefix}{}", &rest[..end(rest)])).collect()
}

#[test]
fn nix_build_links_to_the_spec() {
    let nix = plugin_harness!().private();
    let file = nix.file("image.nix", IMAGE);
    nix.build_file(&file, "image", "result").ok();
    let link = nix.directory().join("result");
    let (path, text) = spec(&nix, &file);
    assert_eq!(fs::read_to_string(&link).unwrap(), text);
    assert!(path.ends_with("-image-Some-Image.json"), "{path}");
    assert!(text.contains(r#""ODD=  \\n%s %% \\\\ \" \u003c\u0026\u003e é $out `id` 'x' ""#), "{text}");
    assert!(!text.ends_with('\n'));
    // A second build adds nothing to the store.
    let before = nix.listing();
    nix.build_file(&file, "image", "again").ok();
    assert_eq!(nix.listing(), before);
}

#[test]
fn old_nix_build_command_works() {
    let nix = plugin_harness!().private();
    let file = nix.file("image.nix", IMAGE);
    let built = run(nix.command("nix-build").arg("--no-out-link").arg(&file).args(["-A", "image"])).ok();
    assert_eq!(fs::read_to_string(built).unwrap(), spec(&nix, &file).1);
}

#[test]
fn spec_references_every_store_path_that_it_names() {
    let nix = plugin_harness!().private();
    let file = nix.file("image.nix", IMAGE);
    nix.build_file(&file, "image", "result").ok();
    let (path, text) = spec(&nix, &file);
    let named = store_paths(&nix, &text);
    // base, a, b and c.
    assert_eq!(named.len(), 4, "{named:?}");
    let link = nix.directory().join("result").display().to_string();
    for object in [path, link] {
        let references = run(nix.command("nix-store").args(["-q", "--references", &object])).ok();
        let references: BTreeSet<String> = references.lines().map(str::to_owned).collect();
        assert_eq!(references, named, "{object}");
    }
}

#[test]
fn result_link_keeps_the_closure_alive() {
    let nix = plugin_harness!().private();
    let file = nix.file("image.nix", IMAGE);
    nix.build_file(&file, "image", "result").ok();
    let rubbish = nix.file("rubbish.nix", "builtins.toFile \"rubbish\" \"\"");
    let rubbish = run(nix.command("nix").args(["eval", "--raw", "-f"]).arg(rubbish)).ok();
    let named = store_paths(&nix, &spec(&nix, &file).1);
    run(nix.command("nix-store").arg("--gc")).ok();
    assert!(fs::metadata(&rubbish).is_err(), "the garbage collector deleted nothing");
    for path in &named {
        assert!(fs::symlink_metadata(path).is_ok(), "the garbage collector deleted {path}");
    }
    let mut layout = nix.nixply();
    run(layout.arg("layout").arg(nix.directory().join("result")).arg(nix.directory().join("layout"))).ok();
    // Without the link, the garbage collector deletes everything.
    fs::remove_file(nix.directory().join("result")).unwrap();
    run(nix.command("nix-store").arg("--gc")).ok();
    assert_eq!(nix.listing(), [""; 0]);
}

#[test]
fn interpolation_yields_the_spec_with_its_context() {
    let nix = plugin_harness!().private();
    let file = nix.file("image.nix", IMAGE);
    let (path, text) = spec(&nix, &file);
    let context: Value = serde_json::from_str(&nix.eval_file(&file, "context").ok()).unwrap();
    assert_eq!(context, json!({ path: { "path": true } }));
    // A sandboxed build sees only its dependencies.
    nix.build_file(&file, "inside", "inside").ok();
    let copy = fs::read_to_string(nix.directory().join("inside")).unwrap();
    assert_eq!(store_paths(&nix, &copy), store_paths(&nix, &text));
}

#[test]
fn names_and_tags_follow_registry_rules() {
    let nix = plugin_harness!().private();
    let file = nix.file("image.nix", IMAGE);
    let names: Value = serde_json::from_str(&nix.eval_file(&file, "names").ok()).unwrap();
    let hash = names["path"].as_str().unwrap().strip_prefix(nix.store_dir().to_str().unwrap()).unwrap();
    assert_eq!(
        names,
        json!({
            "path": names["path"],
            "imageName": "registry/some-image",
            "imageTag": &hash[1..33],
            "name": "image-Some-Image.json",
            "type": "derivation",
            "system": system(),
            "outputName": "out",
            "tagged": "v1",
        })
    );
}

#[test]
fn missing_inputs_are_built_in_parallel_before_packing() {
    let nix = plugin_harness!().private();
    // Each of the three builds waits for the other two, so sequential builds would never end.
    let meeting = nix.directory().join("meeting");
    fs::create_dir(&meeting).unwrap();
    fs::set_permissions(&meeting, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let file = nix.file(
        "image.nix",
        &r#"let
            wait = name: sh name ''
              : > MEETING/${name}
              i=0
              while ! [ -e MEETING/one -a -e MEETING/two -a -e MEETING/three ]; do
                i=$((i + 1)); [ $i -lt 200 ] || exit 1; sleep 0.1
              done
              mkdir $out; : > $out/${name}
            '';
          in {
            image = builtins.nixplyImage {
              name = "x";
              config.Cmd = [ "${wait "one"}" ];
              copyToRoot = wait "two";
              layers = [ { deps = [ (wait "three") ]; } ];
            };
          }"#
        .replace("MEETING", &meeting.display().to_string()),
    );
    let mut command = nix.command("nix");
    command.args(["build", "--no-link", "--max-jobs", "3"]);
    command.args(["--option", "extra-sandbox-paths", meeting.to_str().unwrap(), "-f"]).arg(file).arg("image");
    let output = run(&mut command);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let packing = output.stderr.find("packing image 'x'").expect("Nix reports it");
    for name in ["one", "two", "three"] {
        let building = output.stderr.find(&format!("-{name}.drv'")).expect("Nix reports it");
        assert!(building < packing, "{}", output.stderr);
    }
}

#[test]
fn warnings_name_omitted_keys_of_the_config() {
    let nix = plugin_harness!().private();
    let file =
        nix.file("image.nix", "{ image = builtins.nixplyImage { name = \"x\"; config.Entrypiont = [ ]; }; }");
    let output = nix.build_file(&file, "image", "result");
    let want = "warning: config.Entrypiont is not part of OCI's image config and is omitted from the image";
    let plain = output.stderr.replace("\u{1b}[35;1m", "").replace("\u{1b}[0m", "");
    assert_eq!(plain.matches(want).count(), 1, "{}", output.stderr);
    assert_eq!(output.code, Some(0));
}
