//! A layer's entry in the history of an image, and times as Go writes them.

use nixply_documents::go_json::null_is_default;
use nixply_documents::{Error, Result, wording};
use serde::{Deserialize, Serialize};

/// Creation time of an image if none is given: Go's zero time.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Author and command of a layer: image-spec's history entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Time of creation, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Command that created the layer.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Author.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Comment.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether the entry has no layer.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// Checks a time, and returns it as Go's `Time.MarshalJSON` writes it after `time.Parse(time.RFC3339, …)`. `what` is used in
/// messages.
pub fn canonical_time(what: &str, text: &str) -> Result<String> {
    let wrong = || {
        Error::invalid(
            format!("{what} {}", wording::quoted(text)),
            "expected RFC 3339, as in \"2024-05-13T09:31:10Z\"",
        )
    };
    let bytes = text.as_bytes();
    let shape = bytes.len() >= 20 && bytes[10] == b'T' && text.is_ascii();
    if !shape {
        return Err(wrong());
    }
    let (civil, rest) = text.split_at(19);
    let shape_of =
        |text: &str| text.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b }).collect::<Vec<_>>();
    if shape_of(civil) != b"0000-00-00T00:00:00" {
        return Err(wrong());
    }
    let civil: jiff::civil::DateTime = civil.parse().map_err(|_| wrong())?;
    if civil.second() != rest_second(text) {
        return Err(wrong());
    }
    let digits =
        rest.strip_prefix('.').map_or(0, |fraction| fraction.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction, offset) = match digits {
        0 => ("", rest),
        _ => (
            rest[1..=digits].get(..9).unwrap_or(&rest[1..=digits]).trim_end_matches('0'),
            &rest[digits + 1..],
        ),
    };
    let offset = match (offset, &shape_of(offset)[..]) {
        ("Z" | "+00:00" | "-00:00", _) => "Z",
        (_, b"+00:00" | b"-00:00") if &offset[1..3] < "24" && &offset[4..6] < "60" => offset,
        _ => return Err(wrong()),
    };
    let dot = if fraction.is_empty() { "" } else { "." };
    Ok(format!("{:04}-{}{dot}{fraction}{offset}", civil.year(), &text[5..19]))
}

/// Returns the seconds as written. jiff reads a leap second as the second before it, but Go refuses leap seconds.
fn rest_second(text: &str) -> i8 {
    text[17..19].parse().unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_go() {
        for (text, canonical) in [
            (ZERO_TIME, ZERO_TIME),
            ("2024-05-13T09:31:10Z", "2024-05-13T09:31:10Z"),
            ("2024-05-13T09:31:10.500Z", "2024-05-13T09:31:10.5Z"),
            ("2024-05-13T09:31:10.000Z", "2024-05-13T09:31:10Z"),
            ("2024-05-13T09:31:10+00:00", "2024-05-13T09:31:10Z"),
            ("2024-05-13T09:31:10.1234567891-08:30", "2024-05-13T09:31:10.123456789-08:30"),
        ] {
            assert_eq!(canonical_time("created", text).unwrap(), canonical);
        }
        for text in [
            "",
            "now",
            "2024-05-13",
            "2024-05-13 09:31:10Z",
            "2024-13-13T09:31:10Z",
            "2024-02-30T09:31:10Z",
            "2024-05-13T09:31:60Z",
            "2024-05-13T09:31:10",
            "2024-05-13T09:31:10+24:00",
            "2024-05-13T09:31:10.Z",
        ] {
            assert!(canonical_time("created", text).unwrap_err().to_string().contains("RFC 3339"), "{text}");
        }
    }
}
