//! The package set: its lib, and that its programs run with nothing but their closures, as an image has them.

use std::fs;
use std::time::{Duration, Instant};

use nixply_tests::engines::{Docker, Engine, Image, Podman, Registry, closure, unique};
use nixply_tests::{Nix, harness, needs};
use serde_json::{Value, json};

#[test]
fn lib_means_what_nixpkgs_lib_means() {
    let nix = harness!();
    let cases = [
        (
            "optional true 1 ++ optional false 2 ++ optionals true [ 3 4 ] ++ optionals false [ 5 ]",
            json!([1, 3, 4]),
        ),
        ("[ (optionalString true \"a\") (optionalString false \"b\") ]", json!(["a", ""])),
        ("concatMapStringsSep \", \" toString [ 1 2 ]", json!("1, 2")),
        ("mapAttrs' (n: v: nameValuePair \"x-${n}\" (v + 1)) { a = 1; b = 2; }", json!({"x-a": 2, "x-b": 3})),
        ("mapAttrsToList (n: v: n + v) { b = \"2\"; a = \"1\"; }", json!(["a1", "b2"])),
        ("genAttrs [ \"a\" \"b\" ] (n: n + n)", json!({"a": "aa", "b": "bb"})),
        ("filterAttrs (n: v: n == \"a\" || v == 3) { a = 1; b = 2; c = 3; }", json!({"a": 1, "c": 3})),
        (
            "recursiveUpdate { a = { b = 1; c = 2; }; d = 3; } { a.b = 4; d.e = 5; }",
            json!({"a": {"b": 4, "c": 2}, "d": {"e": 5}}),
        ),
        ("toUpper \"aB-z9\"", json!("AB-Z9")),
        ("escapeShellArgs [ \"plain/a-b.c\" \"it's\" \"\" \"$x\" ]", json!(r"plain/a-b.c 'it'\''s' '' '$x'")),
        ("[ (boolToString true) (boolToString false) ]", json!(["true", "false"])),
        (
            "[ (removePrefix \"sha256:\" \"sha256:ab\") (removePrefix \"b\" \"ab\") (removeSuffix \"b\" \"ab\") ]",
            json!(["ab", "ab", "a"]),
        ),
        (
            "[ (hasPrefix \"a\" \"ab\") (hasPrefix \"abc\" \"ab\") (hasSuffix \"b\" \"ab\") (hasSuffix \"abc\" \"bc\") ]",
            json!([true, false, true, false]),
        ),
        (
            "[ (splitString \"-\" \"a-b--c\") (splitString \".\" \"a.b\") (splitString \"x\" \"\") ]",
            json!([["a", "b", "", "c"], ["a", "b"], [""]]),
        ),
        ("[ (toList 1) (toList [ 1 ]) ]", json!([[1], [1]])),
        ("unique [ 3 1 3 2 1 ]", json!([3, 1, 2])),
        ("[ (warnIf false \"w\" 1) (warnIf true \"w\" 2) (throwIf false \"t\" 3) ]", json!([1, 2, 3])),
        ("(builtins.tryEval (throwIf true \"t\" 1)).success", json!(false)),
        ("map isDerivation [ pkgs.hello { } \"hello\" ]", json!([true, false, false])),
        ("[ (versionOlder \"2.8\" \"2.26\") (versionOlder \"2.26\" \"2.26\") ]", json!([true, false])),
        ("builtins.elem \"https_proxy\" fetchers.proxyImpureEnvVars", json!(true)),
        ("licenses.mit.spdxId", json!("MIT")),
        ("getExe pkgs.gnugrep == \"${pkgs.gnugrep}/bin/grep\"", json!(true)),
        (
            "(makeOverridable ({ a, b }: { sum = a + b; }) { a = 1; b = 2; }).override { b = 5; }",
            json!({"sum": 6}),
        ),
    ];
    let list = cases.iter().map(|(code, _)| format!("({code})")).collect::<Vec<_>>().join(" ");
    // What is a function is no JSON.
    let plain = "v: if builtins.isAttrs v then removeAttrs v [ \"override\" ] else v";
    let found = nix.eval(&format!("with pkgs.lib; map ({plain}) [ {list} ]"));
    for ((code, expected), found) in cases.iter().zip(found.as_array().unwrap()) {
        assert_eq!(found, expected, "{code}");
    }
}

/// What modules are written with, and short names for cases: `config`, `one` option `a` of a type, `value` of it.
const MODULES: &str = "with pkgs.lib; with types; let
    config = modules: (evalModules { inherit modules; }).config;
    one = type: { options.a = mkOption { inherit type; }; };
    value = type: values: (config ([ (one type) ] ++ map (a: { inherit a; }) values)).a;
    named = file: module: module // { _file = file; };
    point = submodule ({ name, config, ... }: { options = {
      label = mkOption { type = str; default = name; };
      x = mkOption { type = int; default = 1; };
      next = mkOption { type = int; default = config.x + 1; };
    }; });
    described = map (type: type.description);
in ";

#[test]
fn modules_mean_what_nixpkgs_modules_mean() {
    let nix = harness!();
    let cases = [
        // Priorities and order. What is imported comes before what imports it, and later modules before earlier ones.
        (
            "map (value int) [ [ (mkDefault 1) 2 ] [ (mkForce 1) 2 ] [ (mkForce 1) (mkOverride 49 2) ] ]",
            json!([2, 1, 2]),
        ),
        ("value (listOf int) [ [ 1 ] (mkBefore [ 2 ]) [ 3 ] ]", json!([2, 3, 1])),
        (
            "(config [ (one lines) { imports = [ { a = \"imported\"; } ]; a = \"own\"; } ]).a",
            json!("imported\nown"),
        ),
        (
            "config [ { options.a.b = mkOption { type = int; }; } { a = mkForce { b = 1; }; } { a.b = 2; } ]",
            json!({"a": {"b": 1}}),
        ),
        // Conditions: of options that depend on the configuration, of elements, and what is empty then.
        (
            "config [
               { options = { on = mkEnableOption \"it\"; a.b = mkOption { type = int; }; }; }
               ({ config, ... }: { config = mkMerge [ { on = true; } (mkIf config.on { a.b = 3; }) ]; })
             ]",
            json!({"on": true, "a": {"b": 3}}),
        ),
        (
            "value (attrsOf int) [ { x = mkIf false 1; y = mkMerge [ (mkDefault 2) 3 ]; } { z = 4; } ]",
            json!({"y": 3, "z": 4}),
        ),
        ("value (lazyAttrsOf (nullOr int)) [ { x = mkIf false 1; y = 2; } ]", json!({"x": null, "y": 2})),
        ("attrNames (value (lazyAttrsOf int) [ { x = throw \"lazy\"; } ])", json!(["x"])),
        ("value (listOf int) [ [ (mkIf false 1) 2 ] (mkIf false [ 3 ]) ]", json!([2])),
        ("map (type: value type [ ]) [ (listOf int) (attrsOf int) (nullOr int) ]", json!([[], {}, null])),
        // Submodules, their names, and how each attribute's definitions come together.
        (
            "value (attrsOf point) [ { p.x = 4; q = { }; } { p = { x = mkForce 5; label = \"P\"; }; } ]",
            json!({"p": {"label": "P", "next": 6, "x": 5}, "q": {"label": "q", "next": 2, "x": 1}}),
        ),
        ("value point [ ({ config, ... }: { x = config.next + 1; next = 3; }) ]", json!({"label": "a", "next": 3, "x": 4})),
        (
            "config [ { options.s = mkOption { type = submodule { options.p = mkOption { default = 1; }; }; }; }
                      { options.s.q = mkOption { default = 2; }; config.s.p = 3; } ]",
            json!({"s": {"p": 3, "q": 2}}),
        ),
        (
            "value (submodule { freeformType = lazyAttrsOf anything; options.p = mkOption { default = 1; }; })
               [ { q.r = [ 1 ]; } { q.s = mkDefault 2; } ]",
            json!({"p": 1, "q": {"r": [1], "s": 2}}),
        ),
        (
            "value (submoduleWith {
               modules = [ ({ extra, ... }: { options.e = mkOption { default = extra; }; }) ];
               specialArgs.extra = 5;
             }) [ { } ]",
            json!({"e": 5}),
        ),
        // An evaluation with more modules, from without and from within.
        (
            "let
               first = evalModules { modules = [ (one (listOf int)) { a = [ 1 ]; } ]; };
               second = first.extendModules { modules = [ { a = [ 2 ]; } ]; };
             in [ first.config.a second.config.a (second.extendModules { modules = [ { a = mkForce [ 3 ]; } ]; }).config.a ]",
            json!([[1], [2, 1], [3]]),
        ),
        (
            "(config [ ({ extendModules, ... }: { options = {
               a = mkOption { default = 1; };
               other = mkOption { type = raw; default = (extendModules { modules = [ { a = 5; } ]; }).config.a; };
             }; }) ])",
            json!({"a": 1, "other": 5}),
        ),
        // Modules of all forms: their arguments, keys, and which ones are disabled.
        (
            "(evalModules {
               modules = [ ({ x, pkgs, options, ... }: { options.a = mkOption { default = [ x pkgs (options ? a) ]; }; })
                           { _module.args.pkgs = 2; } ];
               specialArgs.x = 1;
             }).config",
            json!({"a": [1, 2, true]}),
        ),
        (
            "let file = builtins.toFile \"module.nix\" \"{ lib, ... }: { a = [ 7 ]; }\"; in map (more: (config ([
               (one (listOf int)) { imports = [ file file ]; } file { key = \"k\"; a = [ 1 ]; } { key = \"k\"; a = [ 2 ]; }
             ] ++ more)).a) [ [ ] [ { disabledModules = [ file { key = \"k\"; } ]; } ] ]",
            json!([[1, 7], []]),
        ),
        // Types: what they make of definitions, how two declarations' types are joined, and what they are called.
        ("value (either int (listOf str)) [ [ \"x\" ] [ \"y\" ] ]", json!(["y", "x"])),
        ("value package [ pkgs.hello ] == pkgs.hello", json!(true)),
        ("value deferredModule [ { a = 1; } ] ? imports", json!(true)),
        ("(config [ (one (enum [ 1 ])) (one (enum [ 2 ])) { a = 2; } ]).a", json!(2)),
        (
            "described [ (listOf path) (nullOr str) (attrsOf (nullOr int)) (oneOf [ str package (listOf str) ])
               (enum [ \"a\" \"b\" ]) (submodule { freeformType = attrsOf int; }) (listOf pathInStore) ]",
            json!([
                "list of absolute path",
                "null or string",
                "attribute set of (null or signed integer)",
                "string or package or list of string",
                "one of \"a\", \"b\"",
                "open submodule of attribute set of signed integer",
                "list of path in the Nix store"
            ]),
        ),
        // The documentation of options.
        (
            "map (option: [ option.name option.type (option.default.text or null) ]) (
               filter (option: !option.internal && !hasInfix \"_module\" option.name) (optionAttrSetToDocList (evalModules {
                 modules = [ { options.p = mkOption { type = attrsOf point; default = { }; }; } ];
               }).options))",
            json!([
                ["p", "attribute set of (submodule)", "{ }"],
                ["p.<name>.label", "string", "\"‹name›\""],
                ["p.<name>.next", "signed integer", "2"],
                ["p.<name>.x", "signed integer", "1"]
            ]),
        ),
    ];
    let list = cases.iter().map(|(code, _)| format!("({code})")).collect::<Vec<_>>().join(" ");
    let found = nix.eval(&format!("{MODULES} [ {list} ]"));
    for ((code, expected), found) in cases.iter().zip(found.as_array().unwrap()) {
        assert_eq!(found, expected, "{code}");
    }
}

#[test]
fn modules_say_what_is_wrong_as_nixpkgs_modules_do() {
    let nix = harness!();
    let cases = [
        (
            "config [ (one int) { options.about = mkOption { }; } (named \"user\" { b = { c = 1; }; }) ]",
            "The option `b' does not exist. Definition values:\n- In `user':\n    {\n      c = 1;\n    }\n\nDid you mean `a'",
        ),
        (
            "config [ { a = 1; } ]",
            "trying to declare an option by placing it into `config' rather than `options'!",
        ),
        ("value (attrsOf point) [ { p.z = 1; } ]", "The option `a.p.z' does not exist."),
        (
            "(config [ (one (listOf int)) (named \"user\" { a = [ 1 \"x\" ]; }) ]).a",
            "A definition for option `a.\"[definition 1-entry 2]\"' is not of type `signed integer'. \
             Definition values:\n- In `user': \"x\"",
        ),
        ("value path [ \"relative\" ]", "is not of type `absolute path'"),
        ("value int [ ]", "The option `a' was accessed but has no value defined. Try setting the option."),
        (
            "(config [ (one int) (named \"x\" { a = 1; }) (named \"y\" { a = 2; }) ]).a",
            "The option `a' has conflicting definition values:\n- In `y': 2\n- In `x': 1\nUse `lib.mkForce value`",
        ),
        (
            "(config [ { options.a = mkOption { readOnly = true; default = 1; }; } { a = 1; } ]).a",
            "The option `a' is read-only, but it's set multiple times.",
        ),
        (
            "(config [ (named \"x\" (one int)) (named \"y\" (one str)) { a = 1; } ]).a",
            "The option `a' in `x' is already declared in `y'.",
        ),
        ("config [ { options = { }; a = 1; } ]", "has an unsupported attribute `a'"),
        ("config [ { options.a = int; } ]", "expected an option declaration at option path `a`"),
        (
            "(config [ ({ absent, ... }: { options.a = mkOption { default = absent; }; }) ]).a",
            "'absent' missing",
        ),
    ];
    for (code, expected) in cases {
        let said = nix.try_eval(&format!("{MODULES} {code}")).fails();
        // A text of several lines is indented.
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain(&said).contains(&plain(expected)), "{code}\n{said}");
    }
}

#[test]
fn another_lib_wins() {
    let nix = harness!();
    let set = format!(
        "import {}/tests/packages {{ lock = builtins.fromJSON (builtins.readFile {}); lib = {{ other = true; }}; }}",
        Nix::repository().display(),
        nix.lock.display()
    );
    assert_eq!(nix.eval(&format!("({set}).lib")), json!({"other": true}));
    assert_eq!(
        nix.eval(&format!("({set}).callPackage ({{ lib, greeting }}: [ lib greeting ]) {{ greeting = 1; }}")),
        json!([{"other": true}, 1])
    );
}

/// `__structuredAttrs`, hooks of inputs, and names that a store path cannot have.
#[test]
fn builders_build_as_nixpkgs_builders() {
    let nix = harness!();
    let built = nix.build(
        r#"pkgs.runCommand "of library/some image" {
            __structuredAttrs = true;
            nativeBuildInputs = [ pkgs.cacert pkgs.jq ];
            list = [ "two words" "one" ];
            exportReferencesGraph.graph = [ pkgs.hello ];
        } ''
            printf '%s\n' "''${list[@]}" "$SSL_CERT_FILE" > $out
            jq '.graph | length > 1' .attrs.json >> $out
        ''"#,
    );
    assert!(built.to_str().unwrap().ends_with("-of-library-some-image"), "{}", built.display());
    let text = fs::read_to_string(built).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((&lines[..2], lines[3]), (&["two words", "one"][..], "true"));
    assert!(lines[2].ends_with("/etc/ssl/certs/ca-bundle.crt") && fs::metadata(lines[2]).is_ok(), "{text}");
}

/// An image that has this closure and the database that tells of it.
#[test]
fn nix_runs_from_its_closure() {
    let nix = harness!();
    let before = r#"let
        graph = pkgs.runCommand "graph.json" {
          __structuredAttrs = true;
          exportReferencesGraph.graph = [ pkgs.nix ];
          nativeBuildInputs = [ pkgs.jq ];
        } "jq .graph .attrs.json > $out";
        database = pkgs.runCommand "nix-database" {
          nativeBuildInputs = [ pkgs.jq pkgs.nix pkgs.sqlite ];
          NIX_STORE_DIR = builtins.storeDir;
        } ''
          jq -r '.[] | .path, .narHash, .narSize, "", (.references | length), .references[]' ${graph} |
            NIX_REMOTE="local?root=$PWD" nix-store --load-db --option build-users-group ""
          mkdir -p $out/nix/var/nix/db
          sqlite3 nix/var/nix/db/db.sqlite .dump | sqlite3 $out/nix/var/nix/db/db.sqlite
        '';
    in"#;
    let arguments = r#"{
        name = "nix";
        copyToRoot = [ database ];
        config.Env = [
          "PATH=${pkgs.nix}/bin" "USER=nobody" "HOME=/" "NIX_PAGER=" "NIX_STORE_DIR=${builtins.storeDir}"
          "NIX_CONFIG=build-users-group ="
        ];
    }"#;
    let podman = Podman::new();
    let image = podman.take(&Image::build(&nix, before, arguments), "none");
    let run = |command: &[&str]| podman.run(&[&[&image[..]], command].concat()).ok();
    let version = run(&["nix-store", "--version"]);
    assert!(version.starts_with("nix-store (Nix) "), "{version}");
    let new = ["nix", "--extra-experimental-features", "nix-command"];
    let config = run(&[&new[..], &["show-config"]].concat());
    let program = nix.build("pkgs.nix");
    // Its own helper, not Debian's.
    let hook = format!("build-hook = {}/libexec/nix/build-remote", program.display());
    assert!(config.lines().any(|line| line == hook), "{config}");
    assert_eq!(run(&[&new[..], &["eval", "--expr", "6 * 7"]].concat()), "42");
    let known = run(&["nix-store", "-qR", program.to_str().unwrap()]);
    let mut known: Vec<&str> = known.lines().collect();
    let closure = closure(&nix, "", "pkgs.nix");
    let mut expected: Vec<&str> = closure.iter().filter_map(|path| path.to_str()).collect();
    known.sort_unstable();
    expected.sort_unstable();
    assert_eq!(known, expected);
}

/// By itself in an image, and as the fixed-output derivation of nix2container's pullImage.
#[test]
fn skopeo_runs_from_its_closure() {
    let nix = harness!();
    let registry = Registry { address: needs!("NIXPLY_TEST_REGISTRY") };
    let skopeo = r#"{ name = "skopeo"; config.entrypoint = [ "${pkgs.skopeo}/bin/skopeo" ]; }"#;
    let image = Image::build(&nix, "", skopeo);
    let podman = Podman::new();
    let reference = podman.take(&image, "none");
    let version = podman.run(&[&reference, "--version"]).ok();
    assert!(version.starts_with("skopeo version "), "{version}");

    let hello = Image::build(&nix, "", r#"{ name = "hello"; config.Cmd = [ "${pkgs.hello}/bin/hello" ]; }"#);
    let pushed = Docker::new(String::new(), registry).push(&hello, "gzip");
    let pull = |hash: &str| {
        nix.try_build(&format!(
            r#"pkgs.runCommand "docker-image-hello" {{
                impureEnvVars = pkgs.lib.fetchers.proxyImpureEnvVars;
                nativeBuildInputs = with pkgs; [ cacert skopeo ];
                outputHashMode = "recursive";
                outputHashAlgo = "sha256";
                outputHash = "{hash}";
            }} ''
                skopeo copy docker://{pushed} dir://$out --insecure-policy --tmpdir=$TMPDIR --src-tls-verify=false
            ''"#
        ))
    };
    let error = pull("sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").fails();
    let got = error.lines().find_map(|line| line.trim().strip_prefix("got:")).expect("Nix tells the hash");
    let pulled = pull(got.trim()).ok();
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(format!("{pulled}/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["config"]["digest"], hello.id());
}

/// A container that goes on while it is asked.
struct Server<'p> {
    podman: &'p Podman,
    name: String,
}

impl<'p> Server<'p> {
    fn start(podman: &'p Podman, image: &str) -> Self {
        let name = unique("-server");
        let mut command = podman.command(&["run", "--detach", "--network", "none", "--name", &name, image]);
        nixply_tests::run(&mut command).ok();
        Self { podman, name }
    }

    /// What a command says that is run inside as soon as it succeeds.
    #[track_caller]
    fn ask(&self, command: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let arguments = [&["exec", &self.name], command].concat();
            let answer = nixply_tests::run(&mut self.podman.command(&arguments));
            if answer.code == Some(0) {
                return answer.ok();
            }
            let logs = || nixply_tests::run(&mut self.podman.command(&["logs", &self.name]));
            assert!(start.elapsed() < Duration::from_secs(30), "{answer:?}\n{:?}", logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// As in nix2container's example: an environment of Python's is uwsgi's home.
#[test]
fn uwsgi_serves_flask_from_an_environment() {
    let nix = harness!();
    let before = r#"let
        uwsgi = pkgs.uwsgi.override { inherit (pkgs) python3; plugins = [ "python3" ]; };
        env = pkgs.python3.withPackages (p: [ p.flask ]);
        hello = pkgs.writeText "hello.py" ''
          from flask import Flask
          app = Flask(__name__)

          @app.route("/<name>")
          def hello(name):
              return f"<p>Hello {name}</p>"
        '';
    in"#;
    let arguments = r#"{
        name = "uwsgi";
        config.Env = [ "PATH=${env}/bin" ];
        config.entrypoint = [
          "${uwsgi}/bin/uwsgi" "--plugin=python3" "--http" ":9090" "-H" "${env}" "--callable" "app"
          "--wsgi-file" hello
        ];
        maxLayers = 3;
    }"#;
    let podman = Podman::new();
    let image = podman.take(&Image::build(&nix, before, arguments), "none");
    let server = Server::start(&podman, &image);
    let ask = "import urllib.request as u; print(u.urlopen('http://localhost:9090/World').read().decode())";
    assert_eq!(server.ask(&["python3", "-c", ask]), "<p>Hello World</p>");

    // The environment by itself: its own Python, its packages and no others, its commands, a compiled module.
    let said = server.ask(&["flask", "--version"]);
    assert!(said.contains("Flask "), "{said}");
    let look = "import sys, flask, markupsafe._speedups; print(sys.prefix); print(flask.__file__)";
    let said = server.ask(&["python3", "-c", look]);
    let env = nix.build("pkgs.python3.withPackages (p: [ p.flask ])");
    let (prefix, module) = said.split_once('\n').unwrap();
    assert_eq!(prefix, env.to_str().unwrap());
    assert!(module.starts_with(prefix) && module.ends_with("/site-packages/flask/__init__.py"), "{module}");
    let honcho =
        nixply_tests::run(&mut podman.command(&["exec", &server.name, "python3", "-c", "import honcho"]));
    assert!(honcho.fails().contains("No module named 'honcho'"));
}

/// With the folders that nixpkgs' nginx takes for granted, and no others.
#[test]
fn nginx_keeps_its_files_where_nixpkgs_does() {
    let nix = harness!();
    let before = r#"let
        conf = pkgs.writeText "nginx.conf" ''
          user nobody nobody;
          daemon off;
          error_log /dev/stdout info;
          pid /dev/null;
          events {}
          http {
            access_log /dev/stdout;
            server { listen 80; location / { root ${pkgs.writeTextDir "index.html" "Hello from NGINX"}; } }
          }
        '';
        var = pkgs.runCommand "nginx-var" { } "mkdir -p $out/var/log/nginx $out/var/cache/nginx";
    in"#;
    let arguments = r#"{
        name = "nginx";
        copyToRoot = [ pkgs.dockerTools.fakeNss var ];
        config.Env = [ "PATH=${pkgs.curl}/bin" ];
        config.Cmd = [ "${pkgs.nginx}/bin/nginx" "-c" conf ];
    }"#;
    let podman = Podman::new();
    let image = podman.take(&Image::build(&nix, before, arguments), "none");
    let server = Server::start(&podman, &image);
    assert_eq!(server.ask(&["curl", "--silent", "--fail", "http://127.0.0.1/"]), "Hello from NGINX");
}
