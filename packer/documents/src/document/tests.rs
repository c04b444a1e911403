use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Thing {
    #[serde(default)]
    small: u8,
    #[serde(default)]
    signed: i32,
    #[serde(default)]
    ratio: f64,
    #[serde(default)]
    on: bool,
    #[serde(default)]
    names: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    inner: Vec<Inner>,
    #[serde(default)]
    kind: Option<Kind>,
    #[serde(default)]
    pair: Option<(u8, u8)>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Inner {
    name: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Round,
    Square,
}

fn error(text: &str) -> String {
    read::<Thing>(text, "thing.json").unwrap_err().to_string()
}

#[test]
fn values_are_converted_to_types() {
    let text = r#"{"small": 255, "signed": -5, "ratio": 1, "on": true, "names": {"a": ["b"]}, "inner": [{"name": "c", "more": 1}],
        "kind": "round", "pair": [1, 2]}"#;
    let thing: Thing = read(text, "thing.json").unwrap();
    assert_eq!((thing.small, thing.signed, thing.ratio, thing.on), (255, -5, 1.0, true));
    assert_eq!((thing.names["a"].as_slice(), thing.inner[0].name.as_str()), (&["b".to_owned()][..], "c"));
    assert_eq!((thing.kind, thing.pair), (Some(Kind::Round), Some((1, 2))));
    assert_eq!(read::<Value>("\u{feff} [1.5, null]", "x").unwrap(), json!([1.5, null]));
    assert_eq!(read::<Option<Thing>>("null", "x").unwrap(), None);
}

#[test]
fn errors_name_the_place_of_a_wrong_value_and_the_required_one() {
    for (text, expected) in [
        (r#"{"small": 256}"#, ": small must be a whole number from 0 to 255, not the number 256"),
        (
            r#"{"signed": 1e3}"#,
            ": signed must be a whole number from -2147483648 to 2147483647, not the number 1000.0",
        ),
        (r#"{"ratio": "1"}"#, ": ratio must be a number, not the text \"1\""),
        (r#"{"on": 1}"#, ": on must be true or false, not the number 1"),
        (r#"{"on": null}"#, ": on must be true or false, not null"),
        (r#"{"names": []}"#, ": names must be an object, not a list"),
        (r#"{"names": {"a": ["b", 1]}}"#, ": names.a[1] must be text, not the number 1"),
        (r#"{"inner": [{"name": "a"}, {}]}"#, ": inner[1] lacks the key `name`"),
        (r#"{"inner": [["a"]]}"#, ": inner[0] must be an object, not a list"),
        (r#"{"kind": "oval"}"#, ": kind must be one of round, square, not the text \"oval\""),
        (r#"{"smal": 1}"#, " cannot have the key `smal`; did you mean `small`?"),
        (r#"[1]"#, " must be an object, not a list"),
        (r#""x""#, " must be an object, not the text \"x\""),
    ] {
        assert_eq!(error(text), format!("thing.json{expected}"), "{text}");
    }
    let within = fill_at::<Thing>(json!({"small": -1}), "", "outer[3]").unwrap_err().to_string();
    assert_eq!(within, "outer[3].small must be a whole number from 0 to 255, not the number -1");
    let itself = fill_at::<Vec<u8>>(json!([300]), "", "outer").unwrap_err().to_string();
    assert_eq!(itself, "outer[0] must be a whole number from 0 to 255, not the number 300");
}

#[test]
fn numbers_that_are_too_large_are_named() {
    let range = "must be a number from -1.7976931348623157e308 to 1.7976931348623157e308, not the number";
    let digits = "9".repeat(400);
    let shown = format!("{}… (400 characters)", "9".repeat(100));
    for (text, expected) in [
        ("1e400", format!(" {range} 1e400")),
        ("[0, -1.5E+999]", format!(": [1] {range} -1.5E+999")),
        ("{\"a\": \"ä\",\n \"b\": {\"c\": [1, 1e400 ]}}", format!(": b.c[1] {range} 1e400")),
        (&format!("{{\"size\":{digits}}}"), format!(": size {range} {shown}")),
    ] {
        assert_eq!(error(text), format!("thing.json{expected}"), "{text}");
    }
}

#[test]
fn syntax_errors_are_in_plain_words() {
    for (text, expected) in [
        ("", " is empty"),
        ("\u{feff}\n", " is empty"),
        ("{", " is not complete: it ends in the middle of an object, line 1, column 1"),
        ("[1,\n[", " is not complete: it ends in the middle of a list, line 2, column 1"),
        ("\"a", " is not complete: it ends in the middle of a text, line 1, column 2"),
        ("{\"a\":", " is not complete: it ends in the middle of a value, line 1, column 5"),
        ("tru3", " is not valid JSON: line 1, column 4: expected true, false or null"),
        ("{\"a\" 1}", " is not valid JSON: line 1, column 6: expected a colon after the key"),
        ("[1 2]", " is not valid JSON: line 1, column 4: expected a comma or `]`"),
        ("[01]", " is not valid JSON: line 1, column 3: this is not a number as JSON writes it"),
        (
            "[\"\\x\"]",
            " is not valid JSON: line 1, column 4: the text has a backslash before a letter that needs none",
        ),
        (
            "[\"\\ud800\"]",
            " is not valid JSON: line 1, column 9: the text has a \\u escape that is not a character",
        ),
        ("{\"a\":{\"b\":1,\n\"b\":2}}", ": line 2, column 3: the key \"b\" occurs twice"),
    ] {
        assert_eq!(error(text), format!("thing.json{expected}"), "{text}");
    }
    let deep = error(&"[".repeat(100_000));
    assert!(deep.ends_with("lists and objects are nested more than 127 levels deep"), "{deep}");
    let bytes = read_bytes::<Value>(b"{\"a\": \"\xff\"}", "thing.json").unwrap_err().to_string();
    assert_eq!(bytes, "thing.json is not text (UTF-8): byte 8 is not part of a character");
}
