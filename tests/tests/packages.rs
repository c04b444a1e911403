//! The package set: its lib, and that its programs run with nothing but their closures, as an image has them.

use std::fs;

use nixply_tests::{Nix, harness};
use serde_json::json;

#[test]
fn lib_means_what_nixpkgs_lib_means() {
    let nix = harness!();
    let cases = [
        ("map toInt [ \"1000\" \" -7 \" \"0\" ]", json!([1000, -7, 0])),
        (
            "map (text: (builtins.tryEval (toInt text)).success) [ \"007\" \"1.5\" \"\" ]",
            json!([false, false, false]),
        ),
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
        ("[ (toLower \"Ab-Z9\") (toUpper \"aB-z9\") ]", json!(["ab-z9", "AB-Z9"])),
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
        ("[ (toList 1) (toList [ 1 ]) (defaultTo 1 null) (defaultTo 1 2) ]", json!([[1], [1], 1, 2])),
        ("flatten [ 1 [ 2 [ 3 ] ] [ ] ]", json!([1, 2, 3])),
        ("unique [ 3 1 3 2 1 ]", json!([3, 1, 2])),
        ("importJSON (builtins.toFile \"x.json\" \"{\\\"a\\\": [1]}\")", json!({"a": [1]})),
        (
            "[ (warnIf false \"w\" 1) (warnIf true \"w\" 2) (throwIf false \"t\" 3) (traceIf true \"t\" 4) ]",
            json!([1, 2, 3, 4]),
        ),
        ("(builtins.tryEval (throwIf true \"t\" 1)).success", json!(false)),
        ("map isDerivation [ pkgs.hello { } \"hello\" ]", json!([true, false, false])),
        ("[ (versionOlder \"2.8\" \"2.26\") (versionAtLeast \"2.26\" \"2.26\") ]", json!([true, true])),
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

#[test]
fn another_lib_wins() {
    let nix = harness!();
    let set = format!(
        "import {}/nix/packages {{ lock = builtins.fromJSON (builtins.readFile {}); lib = {{ other = true; }}; }}",
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
