//! Formats values for messages: escapes control characters and shortens long values.
//!
//! Data (specs, configs, JSON reports) stays exact. This module is for text that people read: errors, warnings, tables.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::path::Path;

use serde_json::Value;

/// Maximum number of characters of a value in a message.
const MAX_VALUE_LENGTH: usize = 100;

/// Maximum number of characters of a word in a message, such as a path. It is larger than [`MAX_VALUE_LENGTH`] because the end of
/// a path matters as much as its beginning.
const MAX_WORD_LENGTH: usize = 300;

/// Maximum number of characters of a message.
const MAX_LINE_LENGTH: usize = 2500;

/// Returns a text on one line that is safe on a terminal: control characters and characters that change the direction of the
/// surrounding text become escapes such as `\u{1b}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match is_hidden(letter) {
            // Rust's Debug format escapes only some of them in a string.
            true => match letter {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                _ => write!(out, "\\u{{{:x}}}", u32::from(letter)).expect("writing to a String cannot fail"),
            },
            false => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// Whether a character moves the cursor, changes the terminal's state, or hides or reorders the text around it.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Returns a message on one line: [`visible`], with long words and a long message shortened.
pub fn line(text: &str) -> Cow<'_, str> {
    let text = visible(text);
    if text.len() <= MAX_WORD_LENGTH {
        return text;
    }
    let words: Vec<Cow<'_, str>> = text.split(' ').map(|word| ends(word, MAX_WORD_LENGTH)).collect();
    let joined = words.join(" ");
    Cow::Owned(ends(&joined, MAX_LINE_LENGTH).into_owned())
}

/// Returns the beginning and the end of a text that has more than `most` characters, with its length between them.
fn ends(text: &str, most: usize) -> Cow<'_, str> {
    let count = match text.len() <= most {
        true => return Cow::Borrowed(text),
        false => text.chars().count(),
    };
    if count <= most {
        return Cow::Borrowed(text);
    }
    // Two thirds of the shown characters are the beginning.
    let (head, tail) = if most > MAX_WORD_LENGTH {
        (most * 2 / 3, most / 3)
    } else {
        (MAX_VALUE_LENGTH * 2 / 3, MAX_VALUE_LENGTH / 3)
    };
    let cut = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    Cow::Owned(format!("{}… ({count} characters) …{}", &text[..cut(head)], &text[cut(count - tail)..]))
}

/// Returns about the first hundred characters of a value, followed by its length if it is longer.
pub fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_VALUE_LENGTH) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}… ({} characters)", &text[..end], text.chars().count())),
    }
}

/// Returns a value in double quotes, escaped and shortened.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE_LENGTH) {
        None => format!("{text:?}"),
        Some((end, _)) => {
            let quoted = format!("{:?}", &text[..end]);
            format!("{}…\" ({} characters)", &quoted[..quoted.len() - 1], text.chars().count())
        }
    }
}

/// Formats a path as text: bytes that are not UTF-8 become `\xff`.
pub fn path(path: &Path) -> impl fmt::Display + '_ {
    struct Shown<'p>(&'p Path);

    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for chunk in self.0.as_os_str().as_encoded_bytes().utf8_chunks() {
                f.write_str(chunk.valid())?;
                chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
            }
            Ok(())
        }
    }

    Shown(path)
}

/// Names a value of a JSON document: `the number 5`, `the text "x"`, `a list`.
pub fn value(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {}", quoted(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// Lists the first few names, and the number of the others.
pub fn some(names: &[&str]) -> String {
    const MAX_NAMES: usize = 12;
    match names.get(MAX_NAMES..) {
        Some(more @ [_, _, ..]) => format!("{} and {} more", names[..MAX_NAMES].join(", "), more.len()),
        _ => names.join(", "),
    }
}

/// Returns the name in `known` that is most similar to `name`, if one is similar enough.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    near(name, known).first().copied()
}

/// Returns the names in `known` that are similar to `name`, the most similar first.
pub fn near<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Vec<&'k str> {
    const MIN_SIMILARITY: f64 = 0.8;
    // No known name is that long, and the comparison would take time.
    if name.len() > MAX_VALUE_LENGTH {
        return Vec::new();
    }
    let wanted = name.to_lowercase();
    let likeness = |known: &str| {
        let known = known.to_lowercase();
        // Names of one edit (a letter more, a letter less, a wrong letter or two swapped letters) count as equal.
        match wanted.chars().count() > 1 && strsim::osa_distance(&wanted, &known) == 1 {
            true => 1.0,
            false => strsim::jaro_winkler(&wanted, &known),
        }
    };
    let scored = known.into_iter().map(|known| (likeness(known), known));
    let mut near: Vec<(f64, &str)> = scored.filter(|(score, _)| *score > MIN_SIMILARITY).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().map(|(_, known)| known).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn control_characters_become_visible_escapes() {
        for (text, shown) in [
            ("plain text, änd … 日本", "plain text, änd … 日本"),
            ("\u{1b}]0;title\u{7}\u{1b}[2J", "\\u{1b}]0;title\\u{7}\\u{1b}[2J"),
            ("a\nb\rc\td\u{7f}", "a\\nb\\rc\\td\\u{7f}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("gnp\u{202e}.exe\u{2066}\u{200f}", "gnp\\u{202e}.exe\\u{2066}\\u{200f}"),
            ("a\u{2028}b\u{feff}", "a\\u{2028}b\\u{feff}"),
            // Escapes are not escaped again.
            ("\\u{1b}", "\\u{1b}"),
        ] {
            assert_eq!(visible(text), shown);
            assert_eq!(visible(&visible(text)), shown);
        }
    }

    #[test]
    fn long_values_are_shortened_between_characters() {
        assert_eq!(short("ä").len(), 2);
        assert_eq!(short(&"ä".repeat(100)), "ä".repeat(100));
        assert_eq!(short(&"ä".repeat(101)), format!("{}… (101 characters)", "ä".repeat(100)));
        assert_eq!(quoted("a\"\u{1b}"), "\"a\\\"\\u{1b}\"");
        assert_eq!(quoted(&"\"".repeat(100_000)), format!("\"{}…\" (100000 characters)", "\\\"".repeat(100)));
        let long = line(&format!("cannot read {}: why", "ä/".repeat(50_000))).into_owned();
        assert!(long.starts_with("cannot read ä/ä/") && long.ends_with("ä/: why"), "{long}");
        assert!(long.contains("… (100001 characters) …") && long.chars().count() < 200, "{long}");
        let many = line(&"word ".repeat(100_000)).chars().count();
        assert!((2000..2600).contains(&many), "{many}");
        let path = format!("/nix/store/{}", "a".repeat(250));
        assert_eq!(line(&path), path);
    }

    #[test]
    fn bytes_of_a_path_that_are_not_utf8_become_escapes() {
        let name = Path::new(OsStr::from_bytes(b"/a/\xff\xfeb\xc3\xa4\xe2\x82"));
        assert_eq!(path(name).to_string(), "/a/\\xff\\xfebä\\xe2\\x82");
    }

    #[test]
    fn similar_names_are_found() {
        let known = ["config", "copyToRoot", "maxLayers"];
        assert_eq!(nearest("confg", known), Some("config"));
        assert_eq!(nearest("maxlayer", known), Some("maxLayers"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest(&"config".repeat(10_000), known), None);
        let names: Vec<String> = (0..1000).map(|at| format!("n{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(some(&names).ends_with("n11 and 988 more"));
        assert_eq!(some(&names[..13]).matches(", ").count(), 12);
    }
}
