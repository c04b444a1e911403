//! nix2container's functions: their arguments and defaults, nested layers, and equal results of the plugin
//! and the derivation.

use std::fs;

use nixply_packer::ImageRequest;
use nixply_packer::Layer;
use nixply_packer::request::schema::Argument;
use nixply_tests::{Nix, expression, harness, plugin_harness, run};
use serde_json::{Value, json};

/// Returns `body` with nix2container's functions, and the images of its tests as `images`.
fn with(plugin: bool, body: &str) -> String {
    let file = Nix::repository().join("tests/nix2container/images.nix");
    format!(
        "let inherit (drop_in {plugin}) nix2container; inherit (nix2container) buildImage buildLayer; \
         images = import {} {{ inherit pkgs nix2container; }}; in {body}",
        file.display()
    )
}

fn spec(nix: &Nix, plugin: bool, body: &str) -> String {
    fs::read_to_string(nix.build(&with(plugin, &format!("({body}).out")))).unwrap()
}

#[test]
fn plugin_and_derivation_produce_the_same_images() {
    let nix = plugin_harness!();
    let names = nix.eval(&with(false, "builtins.attrNames images"));
    let names: Vec<&str> = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.len() >= 15, "{names:?}");
    // One evaluation for all images, as for a file that lists them.
    let all = |plugin: bool| {
        let body = "builtins.mapAttrs (_: image: { inherit (image) imageName imageTag imageRefUnsafe name; \
                    spec = builtins.readFile image.outPath; }) images";
        nix.eval(&with(plugin, body))
    };
    let (packed, built) = (all(true), all(false));
    for name in names {
        assert_eq!(packed[name], built[name], "{name}");
    }
    assert_eq!(built["more"]["imageRefUnsafe"], "registry.example/team/more:v1.0");
    let more: Value = serde_json::from_str(built["more"]["spec"].as_str().unwrap()).unwrap();
    let codecs: Vec<_> =
        more["layers"].as_array().unwrap().iter().map(|layer| &layer["compression"]).collect();
    assert!(codecs.len() > 4 && codecs.iter().all(|codec| **codec == "zstd:3"), "{codecs:?}");
}

/// The examples in the documentation of arguments. These functions compute some arguments themselves, from their own.
#[test]
fn every_documented_argument_is_accepted() {
    let nix = harness!();
    let argument = ImageRequest::argument();
    let layer = argument.key("layers").and_then(Argument::element).unwrap();
    let computed = ["layers", "parents", "fromImage", "nixDatabase", "prebuilt", "system"];
    let mut calls = Vec::new();
    for (function, arguments) in [("buildImage", argument), ("buildLayer", layer)] {
        for (name, argument) in arguments.keys().filter(|(name, _)| !computed.contains(name)) {
            let (_, example) =
                argument.schema()["description"].as_str().unwrap().split_once("```nix\n").unwrap();
            let example = example.split_once("\n```").unwrap().0.replace("./nixply.lock.json", "pkgs.hello");
            let call = match function {
                "buildImage" => format!("(buildImage ({{ name = \"x\"; }} // {{\n{example}\n}})).drvPath"),
                _ => format!("map (layer: (buildLayer layer).drvPath) {{\n{example}\n}}.layers"),
            };
            // The example of `inheritConfig` has a base image.
            let call = call.replace("builtins.nixplyImage", "buildImage");
            calls.push(format!("{{ name = \"{function} {name}\"; value = {call}; }}"));
        }
    }
    assert!(calls.len() > 25, "{} arguments", calls.len());
    let paths = nix.eval(&with(false, &format!("builtins.listToAttrs [ {} ]", calls.join("\n"))));
    assert_eq!(paths.as_object().unwrap().len(), calls.len());
}

/// nix2container's digests depend on how paths are grouped into layers, so the default strategy is `popularity`.
#[test]
fn default_layers_match_nix2container() {
    let nix = harness!();
    let equal = nix.eval(&with(
        false,
        r#"let
          image = more: (buildImage ({ name = "a"; copyToRoot = pkgs.hello; maxLayers = 3; } // more)).outPath;
          layer = more: (buildLayer ({ deps = [ pkgs.hello ]; maxLayers = 3; } // more)).outPath;
          same = of: strategy: of { } == of { inherit strategy; };
          both = strategy: [ (same image strategy) (same layer strategy) ];
        in map both [ "popularity" null "nixply" ]"#,
    ));
    assert_eq!(equal, json!([[true, true], [true, true], [false, false]]));
    let error = nix.try_eval(&with(false, "(buildLayer { groups = { }; }).outPath")).fails();
    assert!(error.contains("nixply: buildLayer: argument `groups` must be a list, got a set"), "{error}");
}

#[test]
fn names_and_defaults_match_nix2container() {
    let nix = harness!();
    let plugin = nix.plugin.is_some();
    let body = "let image = buildImage { name = \"Some/Where/Name\"; copyToRoot = pkgs.hello; }; in { \
                inherit (image) imageName imageTag imageRefUnsafe name fromImage meta; \
                context = builtins.hasContext image.imageRefUnsafe; \
                scripts = map (script: script.name) [ image.copyToDockerDaemon image.copyToRegistry image.copyToPodman image.copyTo ]; \
                arguments = builtins.functionArgs buildImage; }";
    let got = nix.eval(&with(plugin, body));
    let built =
        nix.build(&with(false, "buildImage { name = \"Some/Where/Name\"; copyToRoot = pkgs.hello; }"));
    let hash = &built.file_name().unwrap().to_str().unwrap()[..32];
    assert_eq!(got["imageName"], "some/where/name");
    assert_eq!(got["imageTag"], hash, "the plugin must not change the tag");
    assert_eq!(got["imageRefUnsafe"], format!("some/where/name:{hash}"));
    assert_eq!(got["name"], "image-Name.json");
    assert_eq!(got["context"], false);
    assert_eq!(got["fromImage"], "");
    assert_eq!(got["meta"]["name"], "image-Name.json");
    assert_eq!(
        got["scripts"],
        json!(["copy-to-docker-daemon", "copy-to-registry", "copy-to-podman", "copy-to"])
    );
    // All of nix2container's arguments. All but the name have a default.
    for (name, optional) in [
        ("name", false),
        ("tag", true),
        ("config", true),
        ("layers", true),
        ("copyToRoot", true),
        ("fromImage", true),
        ("arch", true),
        ("perms", true),
        ("maxLayers", true),
        ("initializeNixDatabase", true),
        ("nixUid", true),
        ("nixGid", true),
        ("created", true),
        ("contents", true),
        ("meta", true),
    ] {
        assert_eq!(got["arguments"][name], optional, "{name}");
    }
    let spec: Value = serde_json::from_str(&fs::read_to_string(&built).unwrap()).unwrap();
    assert_eq!(spec["created"], "0001-01-01T00:00:00Z");
    assert_eq!(spec["layers"][0]["History"], json!({"created_by": "nix2container"}));
    assert_eq!(spec["layers"].as_array().unwrap().len(), 1);
    let meta = nix.eval(&with(false, "(buildImage { name = \"a\"; meta.description = \"it\"; }).meta"));
    assert_eq!(meta["description"], "it");
}

#[test]
fn contents_warns_and_conflicts_with_copy_to_root() {
    let nix = harness!();
    for function in ["buildImage { name = \"a\"; ", "buildLayer { "] {
        let eval = |more: &str| nix.try_eval(&with(false, &format!("({function} {more} }}).outPath")));
        let new = eval("copyToRoot = pkgs.hello;");
        assert!(!new.stderr.contains("deprecated"), "{}", new.stderr);
        let old = eval("contents = pkgs.hello;");
        assert_eq!((new.code, old.code), (Some(0), Some(0)), "{}", old.stderr);
        assert_eq!(old.stdout, new.stdout);
        assert!(
            old.stderr
                .contains("The contents parameter is deprecated. Change to copyToRoot if the contents are"),
            "{}",
            old.stderr
        );
        let both = eval("contents = pkgs.hello; copyToRoot = pkgs.bash;");
        assert!(both.stderr.contains("You can not specify both contents and copyToRoot."), "{}", both.stderr);
    }
}

/// Reading a tag, a name or a script's name must not build an image: `nix flake show` reads them. A script
/// itself contains the image.
#[test]
fn names_and_tags_are_known_without_packing() {
    let nix = plugin_harness!();
    // Packing this image would fail, because Nix cannot build its path.
    let body = "let bad = derivation { name = \"bad\"; system = builtins.currentSystem; builder = \"/bin/false\"; }; \
                image = buildImage { name = \"lazy\"; copyToRoot = [ bad ]; layers = [ (buildLayer { deps = [ bad ]; }) ]; }; in \
                { inherit (image) name imageName type; tagged = builtins.stringLength image.imageTag; \
                script = image.copyTo.name; layer = (buildLayer { deps = [ bad ]; }).name; }";
    let got = nix.try_eval(&with(true, body));
    let messages = got.stderr.clone();
    let value: Value = serde_json::from_str(&got.ok()).unwrap();
    let expected = json!({
        "name": "image-lazy.json", "imageName": "lazy", "type": "derivation", "tagged": 32, "script": "copy-to",
        "layer": "layers.json",
    });
    assert_eq!(value, expected);
    assert!(!messages.contains("packing"), "{messages}");
}

#[test]
fn ignored_paths_and_paths_of_lower_layers_are_omitted() {
    let nix = harness!();
    let paths = |layer: &str| -> Vec<String> {
        let directory = nix.build(&with(false, layer));
        let layers =
            Layer::read_all(&fs::read_to_string(directory.join("layers.json")).unwrap(), "it").unwrap();
        let mut names: Vec<String> =
            layers.iter().flat_map(|layer| &layer.paths).map(|path| path.path.to_string()).collect();
        names.sort();
        names
    };
    let path =
        |package: &str| -> String { nix.eval(&format!("pkgs.{package}.outPath")).as_str().unwrap().into() };
    let (hello, glibc) = (path("hello"), path("glibc"));
    let all = paths("buildLayer { deps = [ pkgs.hello ]; }");
    assert!(all.contains(&hello) && all.contains(&glibc), "{all:?}");
    let without = |left_out: &[&String]| {
        all.iter().filter(|path| !left_out.contains(path)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(paths("buildLayer { deps = [ pkgs.hello ]; ignore = pkgs.glibc; }"), without(&[&glibc]));
    let below = paths("buildLayer { deps = [ pkgs.glibc ]; }");
    let left = without(&below.iter().collect::<Vec<_>>());
    assert_eq!(
        paths("buildLayer { deps = [ pkgs.hello ]; layers = [ (buildLayer { deps = [ pkgs.glibc ]; }) ]; }"),
        left
    );
    // With other perms, the lower layer's files differ, so the upper layer also has them.
    let perms = "buildLayer { deps = [ pkgs.glibc ]; perms = [ { path = pkgs.glibc; mode = \"0700\"; } ]; }";
    let again = paths(&format!("buildLayer {{ deps = [ pkgs.hello ]; layers = [ ({perms}) ]; }}"));
    assert!(again.contains(&glibc), "{again:?}");
}

/// If a lower layer had a codec that differs from the image's, it would be packed twice.
#[test]
fn lower_layers_use_the_images_codec() {
    let nix = harness!();
    let body = "let inner = buildLayer { deps = [ pkgs.hello ]; }; outer = buildLayer { deps = [ pkgs.bash ]; layers = [ inner ]; }; \
                image = buildImage { name = \"codec\"; compression = \"zstd:2\"; layers = [ outer ]; }; in { \
                below = map (codec: (outer.withCompression codec).layers.below) [ \"none\" \"zstd:2\" ]; \
                inner = map (codec: inner.withCompression codec) [ \"none\" \"zstd:2\" ]; \
                image = map (layer: layer.prebuilt) image.inDerivation.request.layers; \
                all = map (layer: layer.withCompression \"zstd:2\") [ inner outer ]; }";
    let got = nix.eval(&with(false, body));
    assert_eq!(got["below"], json!([[got["inner"][0]], [got["inner"][1]]]));
    assert_ne!(got["inner"][0], got["inner"][1]);
    assert_eq!(got["image"], got["all"]);
}

/// Regression test for nixkube#47: nix2container's nestedLayers doubles with each link, and its command line
/// is too long after thirteen.
#[test]
fn nixkube_47_chain_of_layers_has_linear_size() {
    let nix = harness!();
    for link in ["[ (builtins.head chain) ]", "chain"] {
        let body = format!(
            "let chain = builtins.foldl' (chain: at: [ (buildLayer {{ deps = [ (pkgs.writeText \"n${{toString at}}\" \"${{toString at}}\") ]; \
             layers = {link}; }}) ] ++ chain) [ (buildLayer {{ deps = [ pkgs.hello ]; }}) ] (builtins.genList (at: at) 40); \
             image = buildImage {{ name = \"chain\"; layers = [ (builtins.head chain) ]; config.Cmd = [ \"${{pkgs.hello}}/bin/hello\" ]; }}; in "
        );
        let counts =
            nix.eval(&with(false, &format!("{body} map (layer: builtins.length layer.nestedLayers) chain")));
        let expected: Vec<usize> = (0..=40).rev().collect();
        assert_eq!(counts, json!(expected), "{link}");
        let spec: Value =
            serde_json::from_str(&spec(&nix, nix.plugin.is_some(), &format!("{body} image"))).unwrap();
        // With a codec, every layer is requested in another form.
        let compressed = body.replace("name = \"chain\";", "name = \"chain\"; compression = \"zstd:2\";");
        let path = nix.try_eval(&with(false, &format!("{compressed} image.drvPath"))).ok();
        assert!(path.contains("-image-chain.json.drv"), "{path}");
        // 40 links with one path each, and hello's layer. The image itself adds no path.
        assert_eq!(spec["layers"].as_array().unwrap().len(), 41, "{link}");
    }
}

#[test]
fn argument_errors_name_the_argument() {
    let nix = harness!();
    let hello = "path = pkgs.hello;";
    for (arguments, message) in [
        (
            "perms = [ { PATH } { PATH } { PATH mode = \"rwx\"; } ];",
            "argument `perms[2].mode` must be octal digits up to 7777, as in \"0755\", got the string \"rwx\"",
        ),
        (
            "perms = [ { PATH mode = 755; } ];",
            "argument `perms[0].mode` must be octal digits up to 7777, as in \"0755\", got 755",
        ),
        (
            "perms = [ { PATH uid = \"0\"; } ];",
            "argument `perms[0].uid` must be a whole number from 0 to 4294967294, got the string \"0\"",
        ),
        ("perms = [ { mode = \"0755\"; } ];", "argument `perms[0]` lacks the attribute `path`"),
        (
            "perms = [ { PATH owner = 1; } ];",
            "unknown attribute `perms[0].owner`, expected one of gid, gname, mode, path, regex, uid, uname",
        ),
        (
            "perms = [ { PATH mod = \"0755\"; } ];",
            "unknown attribute `perms[0].mod`, expected one of gid, gname, mode, path, regex, uid, uname; did you mean `mode`?",
        ),
        ("perms = { };", "argument `perms` must be a list, got a set"),
        (
            "copyToRoot = [ pkgs.hello 3 ];",
            "argument `copyToRoot[1]` must be a derivation, a path or a string with a store path, got 3",
        ),
        (
            "copyToRoot = \"/etc\";",
            "argument `copyToRoot` must be a derivation, a path or a string with a store path, got the string \"/etc\"",
        ),
        ("maxLayers = 0;", "argument `maxLayers` must be a whole number from 1 to 1000000, got 0"),
        (
            "maxLayers = \"3\";",
            "argument `maxLayers` must be a whole number from 1 to 1000000, got the string \"3\"",
        ),
        ("layers = [ pkgs.hello ];", "argument `layers[0]` must be a layer from buildLayer, got a set"),
        (
            "tag = 3;",
            "argument `tag` must be 1 to 128 letters, digits, '_', '.' and '-', not starting with '.' or '-', got 3",
        ),
        ("config = [ ];", "argument `config` must be a set, got a list"),
        ("created = 3;", "argument `created` must be a string, got 3"),
        ("initializeNixDatabase = 1;", "argument `initializeNixDatabase` must be true or false, got 1"),
        ("annotations.a = 1;", "argument `annotations.a` must be a string, got 1"),
        (
            "healthcheck = { tets = \"a\"; };",
            "unknown attribute `healthcheck.tets`, expected one of interval",
        ),
        ("name = \"a b\";", "image name \"a b\" is not valid: expected parts of letters and digits"),
        ("tag = \"a/b\";", "argument `tag` must be 1 to 128 letters"),
    ] {
        let arguments = arguments.replace("PATH", hello);
        let name = if arguments.starts_with("name") { "" } else { "name = \"x\";" };
        let output = nix.try_eval(&with(false, &format!("(buildImage {{ {name} {arguments} }}).drvPath")));
        let message = if message.starts_with("image name") {
            message.to_owned()
        } else {
            format!("nixply: buildImage: {message}")
        };
        assert!(output.code != Some(0) && output.stderr.contains(&message), "{arguments}: {}", output.stderr);
    }
    // The list of expected arguments includes those that only this function has.
    let output =
        nix.try_eval(&with(false, "(buildImage { name = \"x\"; initialiseNixDatabase = true; }).drvPath"));
    let start = "nixply: buildImage: unknown argument `initialiseNixDatabase`, expected one of annotations, anyPlatform,";
    for words in [start, ", fromImage, ", ", nixGid, ", "; did you mean `initializeNixDatabase`?"] {
        assert!(output.code != Some(0) && output.stderr.contains(words), "{words}: {}", output.stderr);
    }
    for (pull, message) in [
        (
            "pullImage { imageName = 3; imageDigest = \"\"; sha256 = \"\"; }",
            "pullImage: argument `imageName` must be a string, got 3",
        ),
        (
            "(nix2container.pullImageFromManifest { imageName = \"a\"; os = 3; }).getManifest",
            "pullImageFromManifest: argument `os` must be a string, got 3",
        ),
    ] {
        let output = nix.try_eval(&with(
            false,
            &format!("({}).drvPath", pull.replacen("pullImage {", "nix2container.pullImage {", 1)),
        ));
        assert!(output.stderr.contains(message), "{}", output.stderr);
    }
    let layer = nix.try_eval(&with(false, "(buildLayer { deps = { }; }).drvPath"));
    assert!(
        layer.stderr.contains("nixply: buildLayer: argument `deps` must be a derivation, a path or a string with a store path, got a set"),
        "{}",
        layer.stderr
    );
    let layer = nix.try_eval(&with(false, "(buildLayer { metadata.made_by = \"x\"; }).drvPath"));
    assert!(
        layer
            .stderr
            .contains("buildLayer: unknown attribute `metadata.made_by`, expected one of author, comment"),
        "{}",
        layer.stderr
    );
}

/// User text in scripts and derivations is never interpreted, whatever it looks like.
#[test]
fn user_text_is_never_executed() {
    let nix = harness!();
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let evil = format!("'; touch {m}; \" $(touch {m}) `touch {m}` \n touch {m} #", m = mark.display());
    let nix_string = serde_json::to_string(&evil).unwrap().replace("${", "\\${");
    // The image contains the text unchanged.
    let image = format!(
        "buildImage {{ name = \"text\"; config = {{ Cmd = [ {nix_string} ]; Labels.x = {nix_string}; }}; copyToRoot = pkgs.hello; \
         annotations.x = {nix_string}; perms = [ {{ path = pkgs.hello; regex = {nix_string}; uname = {nix_string}; }} ]; \
         layers = [ (buildLayer {{ deps = [ pkgs.bash ]; metadata.comment = {nix_string}; }}) ]; }}"
    );
    for plugin in [false, nix.plugin.is_some()] {
        let spec: Value = serde_json::from_str(&spec(&nix, plugin, &image)).unwrap();
        assert_eq!(spec["image-config"]["Cmd"][0], evil.as_str());
        assert_eq!(spec["image-config"]["Labels"]["x"], evil.as_str());
        assert_eq!(spec["annotations"]["x"], evil.as_str());
        assert_eq!(spec["layers"][0]["History"]["comment"], evil.as_str());
        let own = spec["layers"].as_array().unwrap().last().unwrap()["paths"].as_array().unwrap();
        let perms: Vec<_> = own.iter().filter_map(|path| path["options"].get("perms")).collect();
        assert_eq!((&perms[0][0]["uname"], &perms[0][0]["regex"]), (&json!(evil), &json!(evil)));
    }
    // A name or a tag with this text is an error.
    for argument in ["name", "tag"] {
        let name = if argument == "name" { "" } else { "name = \"x\";" };
        let output = nix.try_eval(&with(
            false,
            &format!("(buildImage {{ {name} {argument} = {nix_string}; }}).copyTo.drvPath"),
        ));
        assert!(
            output.code != Some(0)
                && (output.stderr.contains("is not valid: expected ")
                    || output.stderr.contains("must be 1 to 128 letters")),
            "{}",
            output.stderr
        );
    }
    // A name that a shell would split, in the programs of a pulled image.
    let script = nix.build(&with(false, &format!("(nix2container.pullImageFromManifest {{ imageName = {nix_string}; imageTag = {nix_string}; os = {nix_string}; registryUrl = \"127.0.0.1:1\"; }}).getManifest")));
    let output =
        run(std::process::Command::new(script.join("bin/get-manifest")).env("HOME", directory.path()));
    assert_ne!(output.code, Some(0));
    // Without a sandbox, so that executed code would have a visible effect. There is nothing to pull.
    let pull = format!(
        "nix2container.pullImage {{ imageName = {nix_string}; imageDigest = {nix_string}; os = {nix_string}; arch = {nix_string}; \
         name = \"it\"; sha256 = \"sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"; }}"
    );
    let mut command = nix.bare_command("nix-build", "sandbox = false\n");
    let pulled = run(command.args(["--no-out-link", "-E", &expression(&nix, &with(false, &pull))])).fails();
    assert!(pulled.contains("error: invalid value") || pulled.contains("Invalid source name"), "{pulled}");
    assert!(!mark.exists());
}

/// A store path's name may contain characters with a meaning in regular expressions.
#[test]
fn names_with_regex_characters_are_literal() {
    let nix = harness!();
    let body = "let tree = pkgs.runCommand \"g++_v1.0\" { } \"mkdir -p $out/bin; echo x > $out/bin/g++; echo y > $out/bin/gxx\"; in ";
    for plugin in [false, nix.plugin.is_some()] {
        let image = format!(
            "{body} buildImage {{ name = \"plus\"; copyToRoot = tree; \
             perms = [ {{ path = tree; regex = \"/bin/g\\\\+\\\\+$\"; mode = \"0751\"; }} {{ path = tree; regex = \"^${{tree}}\"; uid = 7; mode = \"0555\"; }} ]; }}"
        );
        let file = nix.build(&with(plugin, &format!("({image}).out")));
        let directory = tempfile::tempdir().unwrap();
        let layout = directory.path().join("layout");
        run(nix.nixply().arg("layout").arg(&file).arg(&layout)).ok();
        let spec: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let digest = spec["layers"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let blob = layout.join("blobs/sha256").join(digest);
        let listing = run(std::process::Command::new("tar")
            .args(["--absolute-names", "--numeric-owner", "-tvf"])
            .arg(blob))
        .ok();
        // The later rule, whose expression is the path itself, applies to the whole path.
        for name in ["/bin/g++", "/bin/gxx"] {
            let is_it =
                |line: &str| line.starts_with("-r-xr-xr-x 7/0 ") && line.ends_with(&format!(" {name}"));
            assert!(listing.lines().any(is_it), "{name}: {listing}");
        }
    }
    // A value that is not a store path is a regular expression.
    let wrong = format!(
        "{body} (buildImage {{ name = \"plus\"; copyToRoot = tree; perms = [ {{ path = tree; regex = \"/bin/g++\"; }} ]; }}).out"
    );
    let error = nix.try_build(&with(false, &wrong)).fails();
    assert!(error.contains("perms[0].regex \"/bin/g++\" is not valid"), "{error}");
}
