//! Descriptions: a spec as JSON in which Nix finds no references.
//!
//! Nix finds the references of an output by searching its bytes for the hashes of store paths: 32 characters of its base-32
//! alphabet. A description has the same JSON document as the spec, but never 32 such characters in a row, because some of them
//! are escaped (`\u0030`). So a store object with these bytes has no references, and a binary cache sends it without the image's
//! closure.

use std::io::Write;

/// Length of the hash in a store path's name.
const HASH: usize = 32;

/// Returns the same JSON document without references: escapes characters of strings so that no [`HASH`] characters of Nix's
/// base-32 alphabet are contiguous. Bytes outside strings stay: no number in a spec has 32 digits.
pub(crate) fn without_references(json: &[u8]) -> Vec<u8> {
    let mut text = Text::default();
    let mut in_string = false;
    let mut rest = json;
    while let [byte, after @ ..] = rest {
        let length = match (in_string, byte, after) {
            (true, b'\\', [b'u', ..]) => "\\u0000".len(),
            (true, b'\\', _) => "\\n".len(),
            _ => 1,
        };
        let (token, after) = rest.split_at(length.min(rest.len()));
        match token {
            [byte] if in_string && is_base32(*byte) && text.run + 1 == HASH => text.push_escaped(*byte),
            token => text.push(token),
        }
        in_string ^= token == b"\"";
        rest = after;
    }
    text.bytes
}

/// Output, and the number of its last bytes that are characters of Nix's base-32 alphabet.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    run: usize,
}

impl Text {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        for byte in bytes {
            self.run = if is_base32(*byte) { self.run + 1 } else { 0 };
        }
    }

    /// Pushes a character as an escape. The `u` ends the run, because it is not in the alphabet.
    fn push_escaped(&mut self, byte: u8) {
        let mut escape = [0; 6];
        write!(&mut escape[..], "\\u{byte:04x}").expect("an escape of ASCII has 6 bytes");
        self.push(&escape);
    }
}

/// Whether Nix's base-32 alphabet has a character: digits and lower-case letters without e, o, t and u.
fn is_base32(byte: u8) -> bool {
    byte.is_ascii_digit() || (byte.is_ascii_lowercase() && !b"eotu".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn described(json: &str) -> String {
        String::from_utf8(without_references(json.as_bytes())).unwrap()
    }

    fn longest_run(text: &str) -> usize {
        let runs = text.split(|c: char| !u8::try_from(c).is_ok_and(is_base32));
        runs.map(str::len).max().unwrap_or_default()
    }

    /// Nix's alphabet is `0123456789abcdfghijklmnpqrsvwxyz` (libutil/hash.cc).
    #[test]
    fn alphabet_is_that_of_nix() {
        let alphabet: String = (0..=127u8).filter(|byte| is_base32(*byte)).map(char::from).collect();
        assert_eq!(alphabet, "0123456789abcdfghijklmnpqrsvwxyz");
    }

    #[test]
    fn one_character_of_each_hash_is_escaped() {
        let hash = "0123456789abcdfghijklmnpqrsvwxyz";
        assert_eq!(
            described(&format!("{{\n\t\"path\": \"/nix/store/{hash}-hello\"\n}}")),
            "{\n\t\"path\": \"/nix/store/0123456789abcdfghijklmnpqrsvwxy\\u007a-hello\"\n}"
        );
        // A key, and a run of two hashes.
        assert_eq!(
            described(&format!("{{\"{hash}\":[\"{hash}{hash}\"]}}")),
            "{\"0123456789abcdfghijklmnpqrsvwxy\\u007a\":\
             [\"0123456789abcdfghijklmnpqrsvwxy\\u007a0123456789abcdfghijklmnpqrs\\u0076wxyz\"]}"
        );
        // 31 characters cannot be a hash.
        let short = format!("[\"{}\"]", &hash[1..]);
        assert_eq!(described(&short), short);
    }

    /// The characters of an escape count, because Nix sees them, but are not escaped themselves.
    #[test]
    fn existing_escapes_stay() {
        let tail = |length| "a".repeat(length);
        for escape in ["\\u0030", "\\u00a9", "\\\\", "\\\"", "\\n"] {
            let counted = escape.bytes().rev().take_while(|byte| is_base32(*byte)).count();
            let short = format!("[\"{escape}{}\"]", tail(31 - counted));
            assert_eq!(described(&short), short);
            let long = format!("[\"{escape}{}\"]", tail(32 - counted));
            assert_eq!(described(&long), format!("[\"{escape}{}\\u0061\"]", tail(31 - counted)));
        }
        // An escaped backslash is not the beginning of the escape \u.
        let backslash = format!("[\"\\\\u{}\"]", tail(32));
        assert_eq!(described(&backslash), format!("[\"\\\\u{}\\u0061\"]", tail(31)));
        // An escaped quotation mark does not end the string.
        let mark = format!("[\"\\\"{}\", 1]", tail(32));
        assert_eq!(described(&mark), format!("[\"\\\"{}\\u0061\", 1]", tail(31)));
    }

    #[test]
    fn incomplete_json_is_no_panic() {
        for text in ["", "\"", "\"\\", "\"\\u", "\"\\u00", "\"é\\"] {
            assert_eq!(described(text), text);
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = || {
            prop_oneof![
                "[0-9a-df-np-z]{28,100}",
                "[0-9a-f\\\\\"\n<é\u{1F600}]{0,80}",
                "/nix/store/[0-9a-df-np-s]{32}-[a-z]{1,9}",
            ]
        };
        let leaf = prop_oneof![text().prop_map(Value::from), any::<i64>().prop_map(Value::from)];
        leaf.prop_recursive(3, 24, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(text(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn description_is_the_same_document_without_hashes(value in value()) {
            let compact = nixply_documents::go_json::compact(&value);
            let indented = nixply_documents::go_json::indented(&value);
            for json in [String::from_utf8(compact).unwrap(), String::from_utf8(indented).unwrap()] {
                let description = described(&json);
                prop_assert!(longest_run(&description) < HASH, "{}", description);
                prop_assert_eq!(serde_json::from_str::<Value>(&description).unwrap(), value.clone());
                prop_assert_eq!(described(&description), description);
            }
        }
    }
}
