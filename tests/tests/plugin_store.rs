//! The plugin with a damaged or incomplete store: each failure states the reason and adds nothing to the
//! store.

use std::fs;
use std::path::Path;

use nixply_tests::{Private, plugin_harness, run};

/// Evaluates an attribute of a file. The evaluation must fail, point at the file and add no image to the store.
/// Returns the message.
#[track_caller]
fn fails(nix: &Private, file: &Path, attribute: &str) -> String {
    let before = nix.images();
    let error = nix.eval_file(file, attribute).fails();
    assert_eq!(nix.images(), before, "{error}");
    assert!(error.contains(&format!("at {}:", file.display())), "{error}");
    error
}

fn text(nix: &Private, file: &Path, attribute: &str) -> String {
    serde_json::from_str(&nix.eval_file(file, attribute).ok()).unwrap()
}

#[test]
fn path_missing_in_the_store_is_named() {
    let nix = plugin_harness!().private();
    let store = nix.store_dir().display().to_string();
    let unknown = format!("{store}/0123456789abcdfghijklmnpqrsvwxyz-unknown");
    let file = nix.file(
        "x.nix",
        &format!(
            "{{ gone = (builtins.nixplyImage {{ name = \"x\"; copyToRoot = \"{unknown}\"; }}).outPath;
               base = (builtins.nixplyImage {{ name = \"x\"; fromImage = \"{unknown}\"; }}).outPath;
               deps = (builtins.nixplyImage {{ name = \"x\"; layers = [ {{ }} {{ deps = \"{unknown}\"; }} ]; }}).outPath;
               outside = (builtins.nixplyImage {{ name = \"x\"; layers = [ {{ copyToRoot = [ \"/etc/passwd\" ]; }} ]; }}).outPath;
               below = (builtins.nixplyImage {{ name = \"x\"; copyToRoot = \"${{builtins.toFile \"f\" \"\"}}/bin\"; }}).outPath;
               store = (builtins.nixplyPlan {{ name = \"x\"; copyToRoot = \"{store}\"; }}); }}"
        ),
    );
    for (attribute, path, argument, builtin) in [
        ("gone", unknown.as_str(), "copyToRoot", "nixplyImage"),
        ("base", &unknown, "fromImage", "nixplyImage"),
        ("deps", &unknown, "deps", "nixplyImage"),
        ("outside", "/etc/passwd", "copyToRoot[0]", "nixplyImage"),
        ("store", &store, "copyToRoot", "nixplyPlan"),
    ] {
        let error = fails(&nix, &file, attribute);
        let want = format!(
            "{argument} '{path}' is not a valid path of this store: use the derivation itself, or a path that \
             nix-store --realise or nix store add-path has made"
        );
        assert!(error.contains(&want) && error.contains(&format!("builtins.{builtin}: ")), "{error}");
    }
    let error = fails(&nix, &file, "below");
    assert!(
        error.contains("builtins.nixplyImage: copyToRoot '") && error.contains("-f/bin' is not a valid path"),
        "{error}"
    );
}

#[test]
fn plain_text_path_is_accepted_if_nix_knows_it() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        r#"rec {
          a = sh "a" "mkdir $out; : > $out/a";
          a' = builtins.unsafeDiscardStringContext "${a}";
          plain = (builtins.nixplyImage { name = "x"; copyToRoot = a'; }).outPath;
          context = (builtins.nixplyImage { name = "x"; copyToRoot = a; }).outPath;
        }"#,
    );
    let error = fails(&nix, &file, "plain");
    assert!(error.contains("is not a valid path of this store"), "{error}");
    assert_eq!(text(&nix, &file, "context"), text(&nix, &file, "plain"));
}

#[test]
fn failed_build_of_an_input_is_reported_by_nix() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        "(builtins.nixplyImage {\n name = \"x\"; copyToRoot = sh \"bad\" \"echo no luck >&2; exit 3\"; }).outPath",
    );
    let before = nix.images();
    let error = run(nix.command("nix").args(["eval", "-f"]).arg(&file)).fails();
    assert!(error.contains("no luck") && error.contains("failed with exit code 3"), "{error}");
    assert!(!error.contains("cannot pack"), "{error}");
    assert_eq!(nix.images(), before);
}

#[test]
fn more_layers_than_runtimes_support_need_a_higher_limit() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        r#"let
          files = builtins.genList (n: builtins.toFile "f${toString n}" "") 130;
          image = more: builtins.nixplyImage ({ name = "x"; layers = [ ({ deps = files; } // more) ]; });
          limited = more: builtins.nixplyImage ({ name = "x"; layers = [ { deps = files; maxLayers = 200; } ]; } // more);
        in {
          many = (limited { }).outPath;
          few = (limited { layerLimit = 129; }).outPath;
          raised = builtins.length (limited { layerLimit = 200; }).layers;
          enough = builtins.length (limited { layerLimit = 130; }).layers;
          merged = builtins.length (image { maxLayers = 127; }).layers;
          each = (image { strategy = "per-path"; maxLayers = 127; }).outPath;
          plan = builtins.nixplyPlan { name = "x"; layers = [ { deps = files; maxLayers = 200; } ]; };
        }"#,
    );
    let refused = |limit: u32| {
        format!(
            "the image would have 130 layers, but container runtimes support at most {limit}: lower maxLayers, merge \
             layers, or raise layerLimit if your runtime supports more"
        )
    };
    for (attribute, doing, limit) in [("many", "pack", 127), ("few", "pack", 129), ("plan", "plan", 127)] {
        let error = fails(&nix, &file, attribute);
        assert!(error.contains(&format!("cannot {doing} image 'x': {}", refused(limit))), "{error}");
    }
    fails(&nix, &file, "each");
    for (attribute, layers) in [("raised", "130"), ("enough", "130"), ("merged", "127")] {
        assert_eq!(nix.eval_file(&file, attribute).ok(), layers, "{attribute}");
    }
}

#[test]
fn conflicting_files_are_an_error() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        r#"rec {
          a = sh "a" "mkdir -p $out/etc; echo a > $out/etc/motd";
          b = sh "b" "mkdir -p $out/etc; echo b > $out/etc/motd";
          same = sh "same" "mkdir -p $out/etc; echo a > $out/etc/motd";
          image = copyToRoot: (builtins.nixplyImage { name = "x"; inherit copyToRoot; }).outPath;
          two = image [ a b ];
          one = image [ a ];
          twice = image [ a a ];
        }"#,
    );
    let error = fails(&nix, &file, "two");
    assert!(error.contains("cannot pack image 'x': "), "{error}");
    assert!(error.contains("remove one of the two, or give one of them its own place"), "{error}");
    for part in ["/etc/motd", "-a/etc/motd", "-b/etc/motd"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(text(&nix, &file, "one"), text(&nix, &file, "twice"));
}

#[test]
fn deleted_store_path_is_named() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        r#"rec {
          inner = sh "inner" "mkdir $out; : > $out/i";
          a = sh "a" "echo ${inner} > $out";
          image = (builtins.nixplyImage { name = "x"; layers = [ { deps = [ a ]; } ]; }).outPath;
          plan = builtins.nixplyPlan { name = "x"; layers = [ { deps = [ a ]; } ]; };
          path = "${inner}";
        }"#,
    );
    let inner = text(&nix, &file, "path");
    let link = nix.directory().join("a").display().to_string();
    run(nix.command("nix-build").arg(&file).args(["-A", "a", "--out-link", &link])).ok();
    run(std::process::Command::new("chmod").args(["-R", "u+w", &inner])).ok();
    fs::remove_dir_all(&inner).unwrap();
    let error = fails(&nix, &file, "image");
    let want = format!(
        "cannot pack image 'x': store path does not exist: it was never realised, or deleted, for example by a garbage collection; restore it with \
         nix-store --realise (with nix-store --repair-path if Nix still lists it), and protect it from garbage collection \
         while it is packed: {inner}"
    );
    assert!(error.contains(&want), "{error}");
    // A plan reads no store paths, so it does not need them.
    nix.eval_file(&file, "plan").ok();
    // After a repair, the build succeeds.
    run(nix.command("nix-store").args(["--repair-path", &inner])).ok();
    nix.eval_file(&file, "image").ok();
}

#[test]
fn damaged_base_image_spec_is_named() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        r#"rec {
          image = text: (builtins.nixplyImage { name = "x"; fromImage = builtins.toFile "base.json" text; }).outPath;
          empty = image "";
          other = image "{\"version\": 7}";
        }"#,
    );
    for (attribute, reason) in
        [("empty", "-base.json is empty"), ("other", "-base.json lacks the key `layers`")]
    {
        let error = fails(&nix, &file, attribute);
        assert!(error.contains("cannot pack image 'x': fromImage "), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn program_and_plugin_refuse_the_same_images() {
    let nix = nixply_tests::harness!().private();
    let store = nix.store_dir().display().to_string();
    let unknown = format!("{store}/0123456789abcdfghijklmnpqrsvwxyz-unknown");
    let request = nix.directory().join("request.json");
    let output = nix.directory().join("image.json");
    let build = |text: String| {
        fs::write(&request, text).unwrap();
        let ended = run(nix.nixply().arg("build").arg("-o").arg(&output).arg(&request));
        assert!(!output.exists(), "{}", ended.stderr);
        (ended.code, ended.fails())
    };
    let (code, error) = build(format!(r#"{{ "arch": "amd64", "copyToRoot": [ "{unknown}" ] }}"#));
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains(&unknown), "{error}");
    assert!(
        error.contains(
            "error: nix path-info failed with exit status: 1\nhint: build the request's store paths first"
        ),
        "{error}"
    );
    let (code, error) = build(r#"{ "arch": "amd64", "copytoroot": [ ] }"#.into());
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("cannot have the key `copytoroot`; did you mean `copyToRoot`?"), "{error}");
    let (code, error) = build(r#"{ "system": "vax-linux" }"#.into());
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("its processor has no OCI name known here: set arch"), "{error}");
    let (code, error) = build(r#"{ "name": "a b" }"#.into());
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("image name \"a b\" is not valid"), "{error}");
}

/// The program's requests are the builtin's arguments as JSON. JSON has no string context, so the program finds
/// store paths by their text.
#[test]
fn program_finds_store_paths_in_the_config() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        r#"rec {
          a = sh "a" "mkdir $out; echo a > $out/a";
          b = sh "b" "mkdir $out; echo ${a} > $out/b";
          root = sh "root" "mkdir $out; : > $out/root";
          arguments = { name = "x"; tag = null; copyToRoot = root; config.Env = [ "B=${b}/b:/usr" "LOCK=${b}.lock" ]; maxLayers = 2; perms = null; };
          image = (builtins.nixplyImage arguments).outPath;
          text = builtins.toJSON arguments;
          plain = (builtins.nixplyImage (arguments // {
            config.Env = [ "B=${builtins.unsafeDiscardStringContext "${b}"}" ];
          })).outPath;
          b-path = "${b}";
        }"#,
    );
    let spec = fs::read_to_string(text(&nix, &file, "image")).unwrap();
    let arguments: String = serde_json::from_str(&nix.eval_file(&file, "text").ok()).unwrap();
    let mut command = nix.nixply();
    let made = nixply_tests::run_with_input(command.args(["build", "-", "--quiet"]), &arguments);
    assert_eq!(made.stderr, "", "text that only resembles a path must not cause a warning");
    assert_eq!(made.ok(), spec);
    // The plugin ignores a path in text without context, and prints a warning that names it.
    let output = nix.eval_file(&file, "plain");
    let b = text(&nix, &file, "b-path");
    let warning = format!("the config names {b}, which is not in the image");
    assert!(output.stderr.contains(&warning), "{}", output.stderr);
    assert!(!fs::read_to_string(text(&nix, &file, "plain")).unwrap().contains(&format!("\"path\": \"{b}\"")));
}

#[test]
fn frontends_share_cached_results() {
    let nix = plugin_harness!().private();
    let file = nix.file(
        "x.nix",
        r#"rec {
          a = sh "a" "mkdir $out; echo a > $out/a";
          image = (builtins.nixplyImage { name = "x"; compression = "gzip"; layers = [ { deps = [ a ]; } ]; }).outPath;
          path = "${a}";
        }"#,
    );
    let spec = text(&nix, &file, "image");
    let path = text(&nix, &file, "path");
    let request = nix.directory().join("request.json");
    let json =
        format!(r#"{{ "arch": "ARCH", "compression": "gzip", "layers": [ {{ "deps": [ "{path}" ] }} ] }}"#);
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    fs::write(&request, json.replace("ARCH", arch)).unwrap();
    // The packer cannot read the path any more, so each result is from the cache.
    run(std::process::Command::new("chmod").args(["-R", "u+w", &path])).ok();
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(text(&nix, &file, "image"), spec);
    assert_eq!(run(nix.nixply().arg("build").arg(&request)).ok(), fs::read_to_string(&spec).unwrap());
    for forgetful in [
        run(nix.nixply().args(["build", "--no-cache"]).arg(&request)).fails(),
        run(nix.nixply().env("XDG_CACHE_HOME", nix.directory().join("empty")).arg("build").arg(&request))
            .fails(),
        run(nix
            .command("nix")
            .args(["eval", "--option", "nixply-cache-dir", "none", "-f"])
            .arg(&file)
            .arg("image"))
        .fails(),
    ] {
        assert!(forgetful.contains("store path does not exist: it was never realised"), "{forgetful}");
        assert!(forgetful.contains(&path), "{forgetful}");
    }
}
