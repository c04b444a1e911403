//! The package set: its lib, modules and builders.

use std::fs;

use nixply_tests::{Nix, harness};
use serde_json::json;

#[test]
fn lib_matches_nixpkgs_lib() {
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
    // A function cannot be converted to JSON.
    let plain = "v: if builtins.isAttrs v then removeAttrs v [ \"override\" ] else v";
    let found = nix.eval(&format!("with pkgs.lib; map ({plain}) [ {list} ]"));
    for ((code, expected), found) in cases.iter().zip(found.as_array().unwrap()) {
        assert_eq!(found, expected, "{code}");
    }
}

/// Functions for the cases: `config` evaluates modules, `one` declares an option `a` of a type, and `value`
/// returns the value of `a` after these definitions.
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
fn modules_match_nixpkgs_modules() {
    let nix = harness!();
    let cases = [
        // Priorities and order. Definitions of an imported module precede those of the module that imports it,
        // and definitions of later modules precede those of earlier modules.
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
        // Conditions: on options that depend on the configuration, on elements, and the empty results.
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
        // Submodules, their names, and the merging of each attribute's definitions.
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
        // An evaluation with additional modules, from outside and from inside.
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
        // Modules of all forms: their arguments, keys, and disabled modules.
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
        // Types: the merging of definitions, the union of two declarations' types, and their descriptions.
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
        // Options that replace others, and their documentation.
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
fn module_errors_match_nixpkgs() {
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
        // Nix indents a text of several lines.
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain(&said).contains(&plain(expected)), "{code}\n{said}");
    }
}

#[test]
fn lib_argument_replaces_the_default_lib() {
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

/// `__structuredAttrs`, hooks of inputs, and names that are invalid in a store path.
#[test]
fn builders_match_nixpkgs_builders() {
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
