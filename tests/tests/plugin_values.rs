//! The values of the builtins' arguments: they reach the image, `null` means absent, and the plugin and the builder frontend treat
//! them equally.

use std::fs;

use nixply_packer::ImageRequest;
use nixply_packer::request::schema::Argument;
use nixply_tests::{Nix, Output, plugin_harness};
use serde_json::Value;

/// The examples in the documentation of arguments.
#[test]
fn every_example_builds_the_same_image_in_both_frontends() {
    let (nix, cli) = {
        let nix = plugin_harness!();
        (nix.private(), nix.cli)
    };
    let lock =
        r#"{ "version": 1, "release": 1, "images": { "base": 20, "x": 1 }, "layers": [], "paths": {} }"#;
    fs::write(nix.directory().join("nixply.lock.json"), lock).unwrap();
    let layers = ImageRequest::argument().key("layers").and_then(Argument::element).unwrap();
    let mut built = 0;
    let mut wrong = Vec::new();
    for (name, argument) in ImageRequest::argument().keys().chain(layers.keys()) {
        let description = argument.schema()["description"].as_str().unwrap();
        let (_, example) = description.split_once("```nix\n").unwrap();
        let (example, _) = example.split_once("\n```").unwrap();
        let example = example
            .replace("./nix/", &format!("{}/nix/", Nix::repository().display()))
            .replace("{ inherit nixply; }", "{ inherit builder; }");
        // The derivation omits `system`, because this machine does not build derivations for other systems.
        let file = nix.file(
            &format!("{name}.nix"),
            &format!(
                "let builder = \"${{builtins.path {{ path = {cli}; name = \"nixply\"; }}}}\"; pkg = name: sh name \"mkdir -p $out/bin; : > $out/bin/${{name}}\"; \
                 pkgs = builtins.listToAttrs (map (name: {{ inherit name; value = pkg name; }}) [ \"hello\" \"bash\" \"python3\" \"cacert\" ]); \
                 image = {{ name = \"x\"; }} // {{\n{example}\n}}; in {{ \
                 plugin = builtins.readFile (builtins.nixplyImage image).outPath; \
                 derivation = builtins.readFile (buildImage (removeAttrs image [ \"system\" ])).outPath; }}",
                cli = cli.display()
            ),
        );
        let [plugin, derivation] = ["plugin", "derivation"].map(|frontend| nix.eval_file(&file, frontend));
        built += 1;
        let is_same = name == "system" || plugin.stdout == derivation.stdout;
        if plugin.code != Some(0) || derivation.code != Some(0) || !is_same {
            wrong.push(format!(
                "{name}:\n{}{}\n{}{}",
                plugin.stdout, plugin.stderr, derivation.stdout, derivation.stderr
            ));
        }
    }
    assert!(built > 30, "{built} examples");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn null_means_absent_for_every_argument() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "null.nix",
        r#"let
          N = null;
          a = sh "a" "mkdir $out; : > $out/a";
          d = sh "d" "mkdir $out; : > $out/d";
          f = builtins.toFile "f" "";
          nulls = builtins.nixplyImage {
            name = "x"; tag = N; config = N; copyToRoot = a; maxLayers = N; strategy = N; groups = N; fromImage = N;
            arch = N; system = N; created = N; compression = N; layerLimit = N;
            perms = [ { path = a; regex = N; mode = N; uid = N; gid = N; uname = N; gname = N; } ];
            layers = [
              { deps = f; copyToRoot = N; maxLayers = N; strategy = N; groups = N; perms = N; ignore = N; metadata = N; }
              { deps = N; copyToRoot = d; metadata = { created = N; created_by = N; author = N; comment = N; }; }
            ];
          };
          plain = builtins.nixplyImage {
            name = "x"; copyToRoot = a; perms = [ { path = a; } ];
            layers = [ { deps = f; } { copyToRoot = d; metadata = { }; } ];
          };
        in { names = map (image: { path = image.outPath; tag = image.imageTag; }) [ nulls plain ]; }"#,
    );
    let names: Value = serde_json::from_str(&nix.eval_file(&file, "names").ok()).unwrap();
    assert_eq!(names[0], names[1]);
    let spec = fs::read_to_string(names[0]["path"].as_str().unwrap()).unwrap();
    assert_eq!(spec.matches("\"digest\"").count(), 3, "{spec}");
}

#[test]
fn every_argument_reaches_the_image() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "all.nix",
        r#"rec {
          a = sh "a" "mkdir $out; : > $out/a";
          f = builtins.toFile "f" "";
          image = builtins.nixplyImage {
            name = "x"; config.User = "u"; arch = "m68k"; system = "m68k-linux"; created = "2020-01-02T03:04:05Z";
            compression = "gzip:3"; copyToRoot = a; layerLimit = 2;
            perms = [ { path = a; regex = ".*/a$"; mode = "0444"; uid = 1; gid = 2; uname = "n"; gname = "g"; } ];
            layers = [ { deps = [ f ]; metadata = { created = "2021-01-01T00:00:00Z"; created_by = "b"; author = "w"; comment = "c"; }; } ];
          };
        }"#,
    );
    let path: String = serde_json::from_str(&nix.eval_file(&file, "image.outPath").ok()).unwrap();
    let spec: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(spec["arch"], "m68k");
    assert_eq!(spec["created"], "2020-01-02T03:04:05Z");
    assert_eq!(spec["image-config"], serde_json::json!({ "User": "u" }));
    let [below, own] = &spec["layers"].as_array().unwrap()[..] else { panic!("{spec}") };
    assert_eq!(below["mediatype"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(
        below["History"],
        serde_json::json!({ "created": "2021-01-01T00:00:00Z", "created_by": "b", "author": "w", "comment": "c" })
    );
    let options = &own["paths"][0]["options"];
    assert_eq!(
        options["perms"],
        serde_json::json!([
            { "regex": ".*/a$", "mode": "0444", "uid": 1, "gid": 2, "uname": "n", "gname": "g" }
        ])
    );
    assert_eq!(options["rewrite"]["repl"], "");
}

#[test]
fn frontends_agree_on_empty_values() {
    let nix = plugin_harness!().private();
    let mut wrong = Vec::new();
    for arguments in [
        "groups = [ ]; copyToRoot = files; maxLayers = 2;",
        "strategy = \"explicit\"; copyToRoot = files; maxLayers = 2;",
        "strategy = \"explicit\"; groups = [ ]; copyToRoot = files; maxLayers = 2;",
        "strategy = \"\"; copyToRoot = files; maxLayers = 2;",
        "compression = \"\";",
        "arch = \"\";",
        "created = \"\";",
        "layers = [ { deps = files; metadata.created = \"\"; } ];",
        "layers = [ { deps = files; metadata = { }; } ];",
        "layers = [ { } ];",
        "groups = [ null ]; copyToRoot = files; maxLayers = 2;",
        "groups = [ { paths = null; } ]; copyToRoot = files; maxLayers = 2;",
        "groups = [ { name = \"f\"; minSize = null; } ]; copyToRoot = files; maxLayers = 2;",
        "maxLayers = 0; copyToRoot = files;",
        "layerLimit = 0;",
        "config = null;",
        "layers = null; perms = null; copyToRoot = null;",
    ] {
        let file = nix.file(
            "x.nix",
            &format!(
                "let file = name: sh name \"mkdir $out; : > $out/${{name}}\"; files = [ (file \"f\") (file \"g\") ]; \
                 image = {{ name = \"x\"; {arguments} }}; in {{ \
                 plugin = builtins.readFile (builtins.nixplyImage image).outPath; \
                 builder = builtins.readFile (buildImage image).outPath; }}"
            ),
        );
        let [plugin, builder] = ["plugin", "builder"].map(|frontend| nix.eval_file(&file, frontend));
        if (plugin.code == Some(0)) != (builder.code == Some(0)) || plugin.stdout != builder.stdout {
            let short = |output: &Output| match output.code {
                Some(0) => output.stdout.replace("\\t", "").replace("\\n", "").replace("\\\"", "'"),
                _ => output.stderr.lines().filter(|line| line.contains("error:")).collect(),
            };
            wrong.push(format!("{arguments}\n  plugin {}\n  builder {}", short(&plugin), short(&builder)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn frontends_agree_on_names_and_tags() {
    let nix = plugin_harness!().private();
    let mut cases: Vec<(String, bool)> = Vec::new();
    for (name, good) in [
        ("Hello", true),
        ("ghcr.io/x/y.z_0--1", true),
        ("localhost:5000/a/b__c", true),
        ("[::1]:5000/a", true),
        ("a b", false),
        ("Foo/", false),
        ("/a", false),
        ("a:tag", false),
        ("a___b", false),
        ("ä", false),
        (&"a".repeat(190), true),
        (&format!("{}/a", "a".repeat(254)), false),
    ] {
        cases.push((format!("name = \"{name}\";"), good));
    }
    for (tag, good) in [
        ("V1.0-rc.1", true),
        ("", false),
        (".a", false),
        ("a/b", false),
        (&"t".repeat(128), true),
        (&"t".repeat(129), false),
    ] {
        cases.push((format!("name = \"x\"; tag = \"{tag}\";"), good));
    }
    for (arguments, good) in cases {
        let file = nix.file(
            "x.nix",
            &format!(
                "let show = image: {{ inherit (image) imageName name; tag = builtins.stringLength image.imageTag; }}; in {{ \
                 plugin = show (builtins.nixplyImage {{ {arguments} }}); builder = show (buildImage {{ {arguments} }}); }}"
            ),
        );
        let [plugin, builder] = ["plugin", "builder"].map(|frontend| nix.eval_file(&file, frontend));
        if good {
            assert_eq!(plugin.ok(), builder.ok(), "{arguments}");
            continue;
        }
        for output in [plugin, builder] {
            assert_eq!(output.code, Some(1), "{arguments}: {}", output.stdout);
            let says = output.stderr.contains("is not valid: expected")
                || output.stderr.contains("must be 1 to 128 letters")
                || output.stderr.contains("must not be empty");
            assert!(says, "{arguments}: {}", output.stderr);
        }
    }
}
