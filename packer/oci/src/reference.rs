//! Rules for an image's name and tag. Source: distribution-spec, "Pulling manifests", and for the registry's host before the
//! name, the grammar in github.com/distribution/reference.

use std::borrow::Cow;
use std::sync::LazyLock;

use nixply_documents::argument::{EXPECTED, NAMES, Names};
use nixply_documents::wording::quoted;
use nixply_documents::{Error, Result};
use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Maximum number of bytes in a name.
pub const NAME_BYTES: usize = 255;

/// The form of a name, for messages.
pub const NAME_FORM: &str = "parts of letters and digits, separated by '/', with single '.', '_', '__' or dashes within a part, at most \
                             255 bytes, as in \"hello\" or \"ghcr.io/nixply/hello\"; pass the tag as a separate argument";

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!("^{}$", name_pattern())).expect("the pattern is a valid regular expression")
});

static TAG: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!("^{}$", Tag::PATTERN)).expect("the pattern is a valid regular expression")
});

/// Returns the regular expression of a whole name in lower case, as a POSIX extended regular expression, which Nix reads too.
pub fn name_pattern() -> String {
    let label = "[a-z0-9]([a-z0-9-]*[a-z0-9])?";
    let host = format!(r"({label}(\.{label})*|\[[0-9a-f:]+])(:[0-9]+)?");
    let part = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*";
    format!("({host}/)?{part}(/{part})*")
}

/// A tag, as an argument of a request.
pub struct Tag;

impl Tag {
    const PATTERN: &str = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
    const FORM: &str = "1 to 128 letters, digits, '_', '.' and '-', not starting with '.' or '-'";
}

impl JsonSchema for Tag {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Tag".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": format!("^{}$", Self::PATTERN),
            EXPECTED: Self::FORM,
            NAMES: Names::Nothing.text(),
        })
    }
}

/// Checks a name and returns it in lower case, as registries require. It may begin with a registry's host, as in
/// `ghcr.io/nixply/hello`.
pub fn canonical_name(name: &str) -> Result<String> {
    let lower = name.to_ascii_lowercase();
    if lower.len() <= NAME_BYTES && NAME.is_match(&lower) {
        return Ok(lower);
    }
    Err(Error::invalid(format!("image name {}", quoted(name)), format!("expected {NAME_FORM}")))
}

/// Checks a name that is used unchanged. Only the registry's host may have capital letters.
pub fn check_name(name: &str) -> Result<()> {
    canonical_name(name)?;
    let (_, path) = name.split_once('/').unwrap_or(("", name));
    if path.chars().any(|letter| letter.is_ascii_uppercase()) {
        return Err(Error::invalid(
            format!("image name {}", quoted(name)),
            "expected lower-case letters, as registries require",
        ));
    }
    Ok(())
}

/// Checks a tag.
pub fn check_tag(tag: &str) -> Result<()> {
    if TAG.is_match(tag) {
        return Ok(());
    }
    Err(Error::invalid(format!("tag {}", quoted(tag)), format!("expected {}", Tag::FORM)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_registries() {
        for (name, canonical) in [
            ("hello", "hello"),
            ("Registry/Some-Image", "registry/some-image"),
            ("localhost:5000/a/b__c", "localhost:5000/a/b__c"),
            ("[::1]:5000/a", "[::1]:5000/a"),
            ("ghcr.io/x/y.z_0--1", "ghcr.io/x/y.z_0--1"),
        ] {
            assert_eq!(canonical_name(name).unwrap(), canonical);
        }
        let long = "a".repeat(256);
        for name in [
            "",
            "a b",
            "/a",
            "a/",
            "a//b",
            "a:tag",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "ä",
            "a@sha256:0",
            "a\n",
            &long,
        ] {
            let error = canonical_name(name).unwrap_err().to_string();
            assert!(error.starts_with(&format!("image name {} is not valid: ", quoted(name))), "{error}");
        }
    }

    #[test]
    fn tags_follow_the_rules_of_registries() {
        let (most, more) = ("t".repeat(128), "t".repeat(129));
        for tag in ["latest", "_", "V1.0-rc.1", &most] {
            check_tag(tag).unwrap();
        }
        for tag in ["", ".a", "-a", "a/b", "a:b", "a b", "ä", "a\n", &more] {
            assert!(check_tag(tag).unwrap_err().to_string().contains("1 to 128"), "{tag}");
        }
    }
}
