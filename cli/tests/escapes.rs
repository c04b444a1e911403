//! Control characters in documents and names do not reach the terminal.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
const A: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";

/// Sets a terminal's title, clears it, forges a line, and reverses text; in JSON's escapes.
const EVIL: &str = r"x\u001b]0;title\u0007\u001b[2J\r\nerror: forged\u009b31m\u202egnp";

fn nixply(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
    command.args(arguments).current_dir(directory).env_clear().env("HOME", directory).stdin(Stdio::null());
    command.output().unwrap()
}

/// Asserts that no line was injected and that there are no control characters.
fn harmless(output: &Output) {
    for bytes in [&output.stdout, &output.stderr] {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let hidden = |letter: &char| letter.is_control() && *letter != '\n' || *letter == '\u{202e}';
        assert_eq!(text.chars().find(hidden), None, "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("error: forged")), "{text}");
    }
}

fn spec(layer: &str) -> String {
    format!(
        r#"{{"version":1,"layers":[{{"digest":"{DIGEST}","size":1,"diff_ids":"{DIGEST}","mediatype":"m",{layer}}}],"arch":"amd64"}}"#
    )
}

#[test]
fn messages_escape_control_characters() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &str| fs::write(directory.path().join(name), content).unwrap();
    let run = |arguments: &[&str]| nixply(directory.path(), arguments);
    put("path.json", &spec(&format!(r#""layer-path":"{EVIL}""#)));
    put("store.json", &spec(&format!(r#""paths":[{{"path":"{A}{EVIL}"}}]"#)));
    put("closure.json", &format!(r#"[{{"path":"{A}","narSize":1,"references":["{EVIL}"]}}]"#));
    put("request.json", &format!(r#"{{"arch":"amd64","config":{{"Cmd":["{A}"]}}}}"#));
    put("key.json", &format!(r#"{{"{EVIL}":1}}"#));
    put("tag.json", &format!(r#"{{"tag":"{EVIL}"}}"#));
    put("config.json", &format!(r#"{{"config":{{"{EVIL}":1}}}}"#));
    put("perm.json", &format!(r#"{{"arch":"amd64","perms":[{{"path":"{EVIL}"}}]}}"#));
    put("fleet.json", &format!(r#"{{"{EVIL}":{{"arch":"amd64","config":{{}}}}}}"#));
    put("empty.json", "[]");
    for arguments in [
        &["inspect", "path.json"][..],
        &["inspect", "store.json"],
        &["plan", "request.json", "--closure", "closure.json"],
        &["plan", "key.json", "--closure", "empty.json"],
        &["plan", "tag.json", "--closure", "empty.json"],
        &["plan", "config.json", "--closure", "empty.json"],
        &["plan", "perm.json", "--closure", "empty.json"],
        &["plan", "--images", "fleet.json", "--closure", "empty.json"],
        &["layout", "path.json", "out"],
        &["layout", "store.json", "out"],
        &["serve", "store.json"],
        &["diff", "path.json", "store.json"],
        &["diff", "store.json", "path.json", "--format", "markdown"],
        &["explain", "store.json", "--closure", "empty.json"],
        &["cache", "import", "store.json"],
        &["skopeo", "copy", "nix:store.json", "dir:out"],
        &["inspect", "none\u{1b}[2J\nerror: forged\u{202e}"],
        &["bad\u{1b}[2J\nerror: forged\u{202e}"],
        &["inspect", "--bad\u{1b}[2J\nerror: forged\u{202e}"],
        &["cache", "stat", "--cache-limit", "\u{1b}[2J\nerror: forged\u{202e}"],
        &["layout", "a", "b", "--compression", "\u{1b}[2J\nerror: forged\u{202e}"],
        &["strategies", "--synthetic", "\u{1b}[2J\nerror: forged\u{202e}"],
        &["strategies", "--strategy", "\u{1b}[2J\nerror: forged\u{202e}", "x"],
        &["explain", "path.json", "\u{1b}[2J\nerror: forged\u{202e}", "--closure", "empty.json"],
    ] {
        let output = run(arguments);
        harmless(&output);
    }
    let shown = String::from_utf8(run(&["inspect", "path.json"]).stdout).unwrap();
    assert!(shown.contains(r"x\u{1b}]0;title\u{7}\u{1b}[2J\r\nerror: forged\u{9b}31m\u{202e}gnp"), "{shown}");
}

/// JSON output is exact; only text for people is escaped.
#[test]
fn json_output_is_not_escaped() {
    let directory = tempfile::tempdir().unwrap();
    let evil = spec(r#""paths":[]"#).replace(r#""mediatype":"m""#, &format!(r#""mediatype":"{EVIL}""#));
    fs::write(directory.path().join("i.json"), evil).unwrap();
    let output = nixply(directory.path(), &["inspect", "i.json", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let media_type: String = serde_json::from_str(&format!("\"{EVIL}\"")).unwrap();
    assert_eq!(value["layers"][0]["mediaType"], media_type);
}

#[test]
fn invalid_utf8_in_names_is_escaped() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixply"));
    command
        .arg("inspect")
        .arg(OsStr::from_bytes(b"a\xff\x1b\xe4.json"))
        .current_dir(directory.path())
        .env_clear();
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: cannot read a\\xff\\u{1b}\\xe4.json: No such file or directory (os error 2)\n"
    );
}

/// Names are also escaped in Markdown: no markup, no HTML.
#[test]
fn markdown_and_pages_escape_control_characters() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &str| fs::write(directory.path().join(name), content).unwrap();
    put("old.json", &spec(r#""paths":[]"#));
    put("new.json", &spec(&format!(r#""paths":[{{"path":"{A}`|<img src=x>\n| forged |"}}]"#)));
    let output = nixply(directory.path(), &["diff", "old.json", "new.json", "--format", "markdown"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("\n| forged"), "{text}");
    for line in text.lines().filter(|line| line.contains("img")) {
        let code = line.matches('`').count();
        assert!(!line.contains("<img") || code % 2 == 0 && code > 0, "{line}");
    }
    let history = r#"{"format":"nixply-history","version":1,"about":"\u001b[2J<script>","images":{"web":["a"]},"releases":[
        {"name":"1\u001b[2J","set":{"a":{"source":"a","version":"1","size":5,"references":[]}}},
        {"name":"2\u202e","set":{"a":{"source":"a","version":"2","size":6,"references":[]}}}]}"#;
    put("history.json", history);
    for format in ["text", "html"] {
        let output = nixply(directory.path(), &["strategies", "history.json", "--format", format, "--quiet"]);
        assert!(output.status.success(), "{output:?}");
        harmless(&output);
        assert!(!String::from_utf8(output.stdout).unwrap().contains("<script>"));
    }
}
