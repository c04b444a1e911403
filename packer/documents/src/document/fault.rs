//! Errors of a value: read from serde, and formatted for users.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::wording;

/// A value that does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The value has a wrong type or is out of range.
    Unlike {
        /// The required value.
        must: String,
        /// The actual value.
        found: String,
    },
    /// An object has an unknown key.
    UnknownKey {
        /// The key.
        key: String,
        /// The known keys.
        known: Vec<&'static str>,
    },
    /// An object lacks a key.
    MissingKey(&'static str),
    /// A type refused the value, with this message.
    Refused(String),
}

impl Fault {
    /// Formats the message for a value at a place in a document. Both names may be empty: the document itself has no place.
    pub(super) fn message(&self, document: &str, place: &str) -> String {
        let place = match self {
            // The place ends with the key itself.
            Self::UnknownKey { key, .. } => {
                place.strip_suffix(key.as_str()).unwrap_or(place).trim_end_matches('.')
            }
            _ => place,
        };
        let subject = match (document, wording::short(place)) {
            ("", place) => place.into_owned(),
            (document, place) if place.is_empty() => document.to_owned(),
            (document, place) => format!("{document}: {place}"),
        };
        match self {
            Self::Refused(why) if why.starts_with(WITHIN) => format!("{subject}{why}"),
            Self::Refused(why) if !why.starts_with(MUST) && !why.starts_with(CANNOT) => {
                format!("{subject}: {why}")
            }
            _ => format!("{subject} {self}"),
        }
    }
}

/// Beginning of a message that follows the value's name.
pub const MUST: &str = "must ";

/// Beginning of a message about an unknown key.
const CANNOT: &str = "cannot have the key ";

/// Maximum number of keys that a message lists in addition to the key that the user may have meant.
const MAX_LISTED_KEYS: usize = 7;

/// Beginning of a message that names a part of the value.
pub const WITHIN: &str = ".";

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlike { must, found } => write!(f, "{MUST}be {must}, not {found}"),
            Self::UnknownKey { key, known } => {
                write!(f, "{CANNOT}`{}`", wording::short(key))?;
                let near = wording::nearest(key, known.iter().copied());
                // The suggested key may not be the one that the user meant, so a short list of keys is also shown.
                if !known.is_empty() && (near.is_none() || known.len() <= MAX_LISTED_KEYS) {
                    write!(f, "; its keys are {}", wording::some(known))?;
                }
                near.map_or(Ok(()), |near| write!(f, "; did you mean `{near}`?"))
            }
            Self::MissingKey(key) => write!(f, "lacks the key `{key}`"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Refused(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let is_number =
            matches!(found, Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_));
        Self::Unlike { must: in_words(&expected.to_string(), is_number), found: named(found) }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        let found = format!("a list of {length}");
        Self::Unlike { must: in_words(&expected.to_string(), false), found }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let must = format!("one of {}", wording::some(expected));
        Self::Unlike { must, found: format!("the text {}", wording::quoted(variant)) }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownKey { key: field.to_owned(), known: expected.to_vec() }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::MissingKey(field)
    }
}

/// Converts the expectations of serde and derived code, which name Rust's types, to plain words. `range` includes the range of
/// numbers.
fn in_words(expected: &str, range: bool) -> String {
    let whole = |least: i128, most: i128| match range {
        true => format!("a whole number from {least} to {most}"),
        false => "a whole number".to_owned(),
    };
    match expected {
        "usize" | "u64" => whole(0, u64::MAX.into()),
        "u32" => whole(0, u32::MAX.into()),
        "u16" => whole(0, u16::MAX.into()),
        "u8" => whole(0, u8::MAX.into()),
        "isize" | "i64" => whole(i64::MIN.into(), i64::MAX.into()),
        "i32" => whole(i32::MIN.into(), i32::MAX.into()),
        "f64" | "f32" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "a borrowed string" | "string" | "path string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        "unit" => "null".to_owned(),
        // "struct Name", "struct Name with 3 elements", "tuple struct Name".
        name if name.starts_with("struct ") || name.starts_with("tuple struct ") => "an object".to_owned(),
        name if name.starts_with("enum ") => "text".to_owned(),
        other => other.to_owned(),
    }
}

/// Names the actual value.
fn named(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(truth) => truth.to_string(),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {}", serde_json::Value::from(number)),
        Unexpected::Char(letter) => format!("the text {letter:?}"),
        Unexpected::Str(text) => format!("the text {}", wording::quoted(text)),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map | Unexpected::StructVariant => "an object".to_owned(),
        other => other.to_string(),
    }
}
