//! Errors about invalid documents: the file, the key, the expected value, and a hint.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const A: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-app";
const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A directory with a valid closure and request.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        directory.put(
            "closure.json",
            format!(r#"[{{"path":"{A}","narHash":"","narSize":1000,"references":[]}}]"#),
        );
        directory.put("request.json", format!(r#"{{"arch":"amd64","config":{{"Cmd":["{A}/bin/app"]}}}}"#));
        directory
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        file
    }

    /// Returns the error of a failing command.
    fn said(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
        command.args(arguments).current_dir(self.path()).env_clear().stdin(Stdio::null());
        let output = command.env("HOME", self.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code();
        assert!(matches!(code, Some(1 | 2)) && output.stdout.is_empty(), "{arguments:?}: {code:?} {said}");
        said
    }

    /// Returns the error of `nixply plan` for a request.
    fn of_request(&self, request: impl AsRef<[u8]>) -> String {
        self.put("r.json", request);
        self.said(&["plan", "r.json", "--closure", "closure.json"])
    }

    /// Returns the error of `nixply inspect` for a spec.
    fn of_spec(&self, spec: impl AsRef<[u8]>) -> String {
        self.put("i.json", spec);
        self.said(&["inspect", "i.json"])
    }
}

/// Internal words that mean nothing to users.
const INNER_WORDS: [&str; 16] = [
    "usize",
    "u32",
    "u64",
    "i64",
    "f64",
    "struct",
    "ByteSize",
    "float",
    "EOF",
    "enum",
    "variant",
    "a map",
    "sequence",
    "data did not match",
    "invalid type",
    "field",
];

fn in_users_words(said: &str) {
    for word in INNER_WORDS {
        assert!(!said.contains(word), "{word}: {said}");
    }
}

#[test]
fn documents_with_errors_are_explained() {
    let directory = Directory::new();
    for (request, expected) in [
        ("", "r.json is empty"),
        (" \n\t", "r.json is empty"),
        (
            r#"{"maxLayers":"5"}"#,
            r#"r.json: maxLayers must be a whole number from 1 to 1000000, not the text "5""#,
        ),
        (
            r#"{"maxLayers":-3}"#,
            "r.json: maxLayers must be a whole number from 1 to 1000000, not the number -3",
        ),
        (
            r#"{"maxLayers":1.5}"#,
            "r.json: maxLayers must be a whole number from 1 to 1000000, not the number 1.5",
        ),
        (r#"{"maxLayers":[]}"#, "r.json: maxLayers must be a whole number from 1 to 1000000, not a list"),
        (
            r#"{"layers":[{"maxLayers":-1}]}"#,
            "r.json: layers[0].maxLayers must be a whole number from 1 to 1000000, not the number -1",
        ),
        (r#"{"arch":"sparc"}"#, r#"r.json: arch "sparc" is not valid: expected OCI's name of a processor"#),
        (
            r#"{"perms":[{"path":"/x","regex":"("}]}"#,
            r#"r.json: perms[0].regex "(" is not valid: unclosed group"#,
        ),
        (
            r#"{"maxLayers":0}"#,
            "r.json: maxLayers must be a whole number from 1 to 1000000, not the number 0",
        ),
        (
            r#"{"healthcheck":{"test":"x","interval":5}}"#,
            r#"r.json: healthcheck.interval must be text such as "30s" or "1m30s", not the number 5"#,
        ),
        (
            r#"{"healthcheck":{"test":"x","interval":"soon"}}"#,
            r#"r.json: healthcheck.interval must be a duration of a millisecond or more, such as "30s" or "1m30s", not "soon""#,
        ),
        (
            r#"{"healthcheck":{"test":"x","retries":-1}}"#,
            "r.json: healthcheck.retries must be a whole number from 0 to 4294967295, not the number -1",
        ),
        (
            r#"{"healthcheck":{"test":"x","retries":4294967296}}"#,
            "r.json: healthcheck.retries must be a whole number from 0 to 4294967295, not the number 4294967296",
        ),
        (r#"{"healthcheck":"curl"}"#, r#"r.json: healthcheck must be an object, not the text "curl""#),
        (r#"{"config":[]}"#, "r.json: config must be an object, not a list"),
        (r#"{"config":{"Cmd":"x"}}"#, r#"r.json: config.Cmd must be a list of texts, not the text "x""#),
        (r#"{"config":{"Env":["A=1",2]}}"#, "r.json: config.Env[1] must be text, not the number 2"),
        (
            r#"{"copyToRoot":5}"#,
            "r.json: copyToRoot must be a store path or a list of store paths, not the number 5",
        ),
        (r#"{"copyToRoot":["x",{}]}"#, "r.json: copyToRoot[1] must be a store path, not an object"),
        (r#"{"layers":{}}"#, "r.json: layers must be a list, not an object"),
        (r#"{"layers":[[]]}"#, "r.json: layers[0] must be an object, not a list"),
        (
            r#"{"perms":[{"path":"/x","uid":"root"}]}"#,
            r#"r.json: perms[0].uid must be a whole number, not the text "root""#,
        ),
        (r#"{"perms":[{"mode":"0755"}]}"#, "r.json: perms[0] lacks the key `path`"),
        (r#"{"compression":"zip"}"#, r#"r.json: compression must be one of none, gzip, zstd, "#),
        (r#"{"inheritConfig":"yes"}"#, r#"r.json: inheritConfig must be true or false, not the text "yes""#),
        (r#"{"annotations":{"a":1}}"#, "r.json: annotations.a must be text, not the number 1"),
        ("null", "r.json must be an object, not null"),
        ("[]", "r.json must be an object, not a list"),
        ("5", "r.json must be an object, not the number 5"),
        (r#"{"config":{}"#, "r.json is not complete: it ends in the middle of an object, line 1, column 12"),
        ("{\n  \"config", "r.json is not complete: it ends in the middle of a text, line 2, column 9"),
        (r#"{"a":1,}"#, "r.json is not valid JSON: line 1, column 8: there is one comma too many"),
        ("{'a':1}", "r.json is not valid JSON: line 1, column 2: expected a key in double quotes"),
        (r#"{"a":1} x"#, "r.json is not valid JSON: line 1, column 9: there is more text after the end"),
        ("{\"a\":\"\u{1}\"}", "r.json is not valid JSON: line 1, column"),
        (r#"{"tag":"a","tag":"b"}"#, r#"r.json: line 1, column 16: the key "tag" occurs twice"#),
    ] {
        let said = directory.of_request(request);
        assert!(said.starts_with(&format!("error: {expected}")), "{request}:\n{said}{expected}");
        in_users_words(&said);
    }
}

#[test]
fn unknown_keys_get_suggestions() {
    let directory = Directory::new();
    for (request, expected) in [
        (r#"{"confg":{}}"#, "error: r.json cannot have the key `confg`; did you mean `config`?\n"),
        (r#"{"MaxLayers":1}"#, "error: r.json cannot have the key `MaxLayers`; did you mean `maxLayers`?\n"),
        (
            r#"{"layers":[{"dep":[]}]}"#,
            "error: r.json: layers[0] cannot have the key `dep`; did you mean `deps`?\n",
        ),
        (
            r#"{"healthcheck":{"test":"x","intervall":"1s"}}"#,
            "error: r.json: healthcheck cannot have the key `intervall`; its keys are test, interval, timeout, startPeriod, \
             startInterval, retries; did you mean `interval`?\n",
        ),
        (
            r#"{"perms":[{"path":"/x","modes":"0755"}]}"#,
            "error: r.json: perms[0] cannot have the key `modes`; its keys are path, regex, mode, uid, gid, uname, gname; did you \
             mean `mode`?\n",
        ),
        // A misspelt key is reported as unknown, not as missing.
        (
            r#"{"layers":[{"perms":[{"paht":"/x"}]}]}"#,
            "error: r.json: layers[0].perms[0] cannot have the key `paht`; its keys are path, regex, mode, uid, gid, uname, \
             gname; did you mean `path`?\n",
        ),
        (
            r#"{"layers":[{"perms":[{"path":"/x","zzz":1}]}]}"#,
            "error: r.json: layers[0].perms[0] cannot have the key `zzz`; its keys are path, regex, mode, uid, gid, uname, \
             gname\n",
        ),
        (r#"{"perms":[{"mode":"0755"}]}"#, "error: r.json: perms[0] lacks the key `path`\n"),
        // Only the plugin may write this key.
        (r#"{"configRoot":[]}"#, "error: r.json cannot have the key `configRoot`; did you mean `config`?\n"),
        (
            r#"{"configRoots":"/x"}"#,
            "error: r.json cannot have the key `configRoots`; did you mean `config`?\n",
        ),
    ] {
        assert_eq!(directory.of_request(request), expected);
    }
    // Check only the first keys, so that a new argument does not change the test.
    let error = directory.of_request(r#"{"zzz":{}}"#);
    assert!(
        error.starts_with("error: r.json cannot have the key `zzz`; its keys are name, tag, config, ")
            && !error.contains("configRoots"),
        "{error}"
    );
}

#[test]
fn spec_errors_are_explained() {
    let directory = Directory::new();
    let layer = |more: &str| {
        format!(r#"{{"version":1,"layers":[{{"digest":"{DIGEST}","diff_ids":"{DIGEST}"{more}}}]}}"#)
    };
    let hint = "hint: an image spec is the image.json that nixply build writes, or a result link to one\n";
    for (spec, expected) in [
        ("null".to_owned(), format!("error: i.json must be an object, not null\n{hint}")),
        (String::new(), format!("error: i.json is empty\n{hint}")),
        ("{}".into(), "error: i.json lacks the key `version`\n".into()),
        (r#"{"version":"1","layers":[]}"#.into(), "error: i.json: version must be a whole number, not the text \"1\"\n".into()),
        (layer(""), "error: i.json: layers[0] lacks the key `mediatype`\n".into()),
        (
            layer(r#","mediatype":"m","size":-5"#),
            "error: i.json: layers[0].size must be a whole number from 0 to 18446744073709551615, not the number -5\n".into(),
        ),
        (
            r#"{"version":1,"layers":[{"digest":"sha256:00"}]}"#.into(),
            "error: i.json: layers[0].digest must be sha256: and 64 hexadecimal digits, not \"sha256:00\"\n".into(),
        ),
        (
            r#"{"version":1,"layers":[],"image-config":{"Env":"A=1"}}"#.into(),
            "error: i.json: image-config.Env must be a list of texts, not the text \"A=1\"\n".into(),
        ),
        (
            r#"{"version":1,"layers":[],"image-config":[]}"#.into(),
            "error: i.json: image-config must be an object, not a list\n".into(),
        ),
        (
            layer(r#","mediatype":"m","paths":[{"path":5}]"#),
            "error: i.json: layers[0].paths[0].path must be text, not the number 5\n".into(),
        ),
        (
            "[".repeat(5000),
            format!("error: i.json is not valid JSON: line 1, column 128: lists and objects are nested more than 127 levels deep\n{hint}"),
        ),
        (
            "# nixply\n".into(),
            format!("error: i.json is not valid JSON: line 1, column 1: expected a value\n{hint}"),
        ),
    ] {
        let said = directory.of_spec(&spec);
        assert_eq!(said, expected, "{}", &spec[..spec.len().min(200)]);
        in_users_words(&said);
    }
    // A byte order mark is not part of the document.
    let spec = format!("\u{feff}{}", layer(r#","mediatype":"m","size":-5"#));
    assert!(directory.of_spec(spec).contains("layers[0].size must be"));
}

#[test]
fn binary_files_are_recognised() {
    let directory = Directory::new();
    for (bytes, expected) in [
        (&b"\x1f\x8b\x08\0\0"[..], "error: i.json is a gzip file, not text\n"),
        (b"\x7fELF\x02\x01\xff", "error: i.json is a program, not text\n"),
        (b"\xff\xfe{\0}\0", "error: i.json is text in UTF-16, not text\n"),
        (
            b"{\"version\": \"\xff\"}",
            "error: i.json is not text (UTF-8): byte 14 is not part of a character\n",
        ),
    ] {
        let said = directory.of_spec(bytes);
        assert!(said.starts_with(expected), "{said}");
    }
    fs::create_dir(directory.path().join("empty")).unwrap();
    directory.put("image/image.json", "{}");
    for (name, hint) in [
        ("empty", "an image spec is the image.json that nixply build writes, or a result link to one"),
        ("image", "pass the file in it: image/image.json"),
    ] {
        let expected = format!("error: {name} is a directory, not an image spec\nhint: {hint}\n");
        assert_eq!(directory.said(&["inspect", name]), expected);
    }
}

/// Files of a kind that the command does not expect.
#[test]
fn wrong_kinds_of_files_are_recognised() {
    let directory = Directory::new();
    directory.put("result", r#"{"version":1,"layers":[],"arch":"amd64"}"#);
    directory
        .put("layers.json", format!(r#"[{{"digest":"{DIGEST}","diff_ids":"{DIGEST}","mediatype":"m"}}]"#));
    directory.put("index.json", r#"{"schemaVersion":2,"manifests":[]}"#);
    directory.put("fleet.json", r#"{"web":{"config":{}},"worker":{"config":{}}}"#);
    directory.put("image.nix", "{ pkgs ? import <nixpkgs> { } }:\nbuiltins.nixplyImage { name = \"x\"; }\n");
    let plan = |file: &str| directory.said(&["plan", file, "--closure", "closure.json"]);
    let spec_hint = "an image spec is the image.json that nixply build writes, or a result link to one";
    for (said, error, hint) in [
        (
            plan("result"),
            "result is an image spec, not an image request",
            "show its layers with nixply inspect result",
        ),
        (
            plan("image.nix"),
            "image.nix is a Nix expression, not an image request",
            "build it first: nix build -f image.nix, then nixply inspect result",
        ),
        (
            plan(".#image"),
            ".#image is a Nix installable, not a file",
            "build it first: nix build .#image, then nixply inspect result",
        ),
        (
            plan("fleet.json"),
            "fleet.json is an object of image requests, not an image request",
            "pass --images to nixply plan",
        ),
        (
            directory.said(&["plan", "--images", "request.json", "--closure", "closure.json"]),
            "request.json is an image request, not an object of image requests",
            "omit --images",
        ),
        (
            directory.said(&["inspect", "request.json"]),
            "request.json is an image request, not an image spec",
            "build it first: nixply build request.json -o image.json",
        ),
        (
            directory.said(&["inspect", "layers.json"]),
            "layers.json is a list of layers (layers.json), not an image spec",
            spec_hint,
        ),
        (
            directory.said(&["diff", "result", "index.json"]),
            "index.json is an OCI index, not an image spec",
            "make a spec with skopeo copy OCI-LAYOUT dir:DIR, then nixply n2c image-from-dir image.json DIR",
        ),
        (
            directory.said(&["plan", "request.json", "--closure", "result"]),
            "result is an image spec, not a closure",
            "get a closure with `nix path-info --json --recursive PATH`",
        ),
        (
            plan("closure.json"),
            "closure.json is a closure, not an image request",
            "pass it as --closure closure.json; an image request is JSON with the arguments of builtins.nixplyImage, such as {\"config\": {...}}",
        ),
    ] {
        assert_eq!(said, format!("error: {error}\nhint: {hint}\n"));
    }
}

#[test]
fn closure_errors_are_explained() {
    let directory = Directory::new();
    for (closure, expected) in [
        ("".to_owned(), "error: c.json is empty\n"),
        ("[".into(), "error: c.json is not complete: it ends in the middle of a list, line 1, column 1\n"),
        (
            format!(r#"[{{"path":"{A}","narSize":"5"}}]"#),
            "error: c.json, entry 0 (/nix/store/0123456789abcdfghijklmnpqrsvwxyz-app): narSize must be a whole number, not the text \"5\"\n",
        ),
        (
            format!(r#"[{{"path":"{A}","references":{{}}}}]"#),
            "error: c.json, entry 0 (/nix/store/0123456789abcdfghijklmnpqrsvwxyz-app): references must be a list, not an object\n",
        ),
    ] {
        directory.put("c.json", closure);
        let said = directory.said(&["plan", "request.json", "--closure", "c.json"]);
        assert!(said.starts_with(expected), "{said}");
        in_users_words(&said);
    }
}

#[test]
fn messages_shorten_long_values() {
    let directory = Directory::new();
    let long = "ä".repeat(100_000);
    for request in [
        format!(r#"{{"maxLayers":"{long}"}}"#),
        format!(r#"{{"{long}":1}}"#),
        format!(r#"{{"tag":"{long}"}}"#),
        format!(r#"{{"name":"{long}"}}"#),
        format!(r#"{{"strategy":"{long}"}}"#),
        format!(r#"{{"created":"{long}"}}"#),
        format!(r#"{{"copyToRoot":"/nix/store/{long}"}}"#),
        format!(r#"{{"compression":"{long}"}}"#),
        format!(r#"{{"system":"{long}"}}"#),
        format!(r#"{{"perms":[{{"path":"{A}","regex":"({long}"}}],"copyToRoot":"{A}"}}"#),
        format!(r#"{{"perms":[{{"path":"{A}","mode":"{long}"}}],"copyToRoot":"{A}"}}"#),
        format!(r#"{{"groups":[{{"name":"({long}"}}]}}"#),
        format!(r#"{{"groups":[{{"minSize":"{long}"}}]}}"#),
        format!(r#"{{"groups":"{long}"}}"#),
        format!(r#"{{"config":{{"Cmd":"{long}"}}}}"#),
        format!(r#"{{"config":{{"Labels":{{"{long}":1}}}}}}"#),
        format!(r#"{{"healthcheck":{{"test":"x","timeout":"{long}"}}}}"#),
    ] {
        let said = directory.of_request(&request);
        let shown = said.chars().count();
        assert!(shown < 1200, "{}: {shown} characters", &request[..40]);
        assert!(said.contains('…') && said.contains("characters)"), "{said}");
    }
    let said = directory.said(&["inspect", &"x/".repeat(2000)]);
    assert!(said.len() < 1000 && said.contains("(4000 characters)"), "{said}");
    let said = directory.said(&["cache", "stat", "--cache-limit", &"ä".repeat(50_000)]);
    assert!(said.len() < 1000, "{}", said.len());
    let words = "word ".repeat(20_000);
    let said = directory.said(&["inspect", words.trim()]);
    assert!(said.len() < 4000, "{}", said.len());
}
