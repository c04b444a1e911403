//! Reads JSON documents. Errors name the document, the key and the required value in the user's terms.
//!
//! All JSON that users or other programs pass to the packer is read here. [`parse`] reads the syntax, [`fill`] converts a value
//! to a type, and [`read`] does both.

mod fault;
mod reader;

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};

pub(crate) use self::fault::Fault;
pub use self::fault::{MUST, WITHIN};
use self::reader::{Exact, Reader};
use crate::error::{Error, Result};
use crate::wording;

/// Reads a document as `T`. `name` is the document's name for messages, such as its file.
pub fn read<T: DeserializeOwned>(text: &str, name: &str) -> Result<T> {
    fill(parse(text, name)?, name)
}

/// As [`read`], from bytes that may not be text.
pub fn read_bytes<T: DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let byte = error.valid_up_to() + 1;
        Error::Content(format!("{name} is not text (UTF-8): byte {byte} is not part of a character"))
    })?;
    read(text, name)
}

/// Parses a document. A key that an object has twice is an error, because readers differ on which one counts.
pub fn parse(text: &str, name: &str) -> Result<Value> {
    // Editors on Windows write a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_ascii().is_empty() {
        return Err(Error::Content(format!("{name} is empty")));
    }
    match serde_json::from_str(text) {
        Ok(Unique(value)) => Ok(value),
        Err(error) => Err(Error::Content(match too_large(text, &error) {
            Some((fault, place)) => fault.message(name, &place),
            None => format!("{name}{}", syntax(&error)),
        })),
    }
}

/// Returns the fault of a number that no float can represent, such as `1e400`, and its place.
fn too_large(text: &str, error: &serde_json::Error) -> Option<(Fault, String)> {
    if !error.to_string().starts_with("number out of range") {
        return None;
    }
    // Parse again with a slower reader, which records the place of the error.
    let mut reader = serde_json::Deserializer::from_str(text);
    let place = serde_path_to_error::deserialize::<_, Unique>(&mut reader).err()?.path().to_string();
    let line = text.split('\n').nth(error.line().checked_sub(1)?)?;
    // The error is at the end of the number.
    let (before, after) = line.split_at_checked(error.column().min(line.len()))?;
    let is_other = |letter: char| !(letter.is_ascii_digit() || "+-.eE".contains(letter));
    let begin = before.rfind(is_other).map_or(0, |at| at + 1);
    let end = after.find(is_other).unwrap_or(after.len());
    let number = format!("{}{}", &before[begin..], &after[..end]);
    let must = format!("a number from {:e} to {:e}", f64::MIN, f64::MAX);
    let fault = Fault::Unlike { must, found: format!("the number {}", wording::short(&number)) };
    Some((fault, if place == "." { String::new() } else { place }))
}

/// Converts a value to a `T`. `name` is the document's name for messages.
pub fn fill<T: DeserializeOwned>(value: Value, name: &str) -> Result<T> {
    fill_at(value, name, "")
}

/// As [`fill`], for a part of a document. Each key must be a field of `T` or in `others`; the caller reads the keys in `others`.
/// Messages list `others` first.
pub fn fill_exactly<T: DeserializeOwned>(value: Value, others: &'static [&'static str]) -> Result<T> {
    from_reader(Exact { value, others }, "", "")
}

/// As [`fill`], for the value at a place in the document. `name` may be empty.
pub fn fill_at<T: DeserializeOwned>(value: Value, name: &str, place: &str) -> Result<T> {
    from_reader(Reader(value), name, place)
}

fn from_reader<'de, T, R>(reader: R, name: &str, place: &str) -> Result<T>
where
    T: DeserializeOwned,
    R: Deserializer<'de, Error = Fault>,
{
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let within = error.path().to_string();
        let place = match within.as_str() {
            "." => place.to_owned(),
            within if place.is_empty() || within.starts_with('[') => format!("{place}{within}"),
            within => format!("{place}.{within}"),
        };
        Error::Content(error.into_inner().message(name, &place))
    })
}

/// Returns the message for a syntax error. serde_json's own messages name its internal types.
fn syntax(error: &serde_json::Error) -> String {
    let (line, column, text) = (error.line(), error.column(), error.to_string());
    let text = text.split(" at line ").next().unwrap_or_default();
    let at = format!("line {line}, column {column}");
    if error.classify() == Category::Eof {
        let within = match text.rsplit(' ').next() {
            Some("list") => "a list",
            Some("object") => "an object",
            Some("string") => "a text",
            _ => "a value",
        };
        return format!(" is not complete: it ends in the middle of {within}, {at}");
    }
    if error.classify() == Category::Data {
        return format!(": {at}: {text}");
    }
    let why = match text {
        "expected value" => "expected a value",
        "expected ident" => "expected true, false or null",
        "expected `:`" => "expected a colon after the key",
        "expected `,` or `}`" => "expected a comma or `}`",
        "expected `,` or `]`" => "expected a comma or `]`",
        "key must be a string" => "expected a key in double quotes",
        "trailing comma" => "there is one comma too many",
        "trailing characters" => "there is more text after the end of the document",
        "invalid number" => "this is not a number as JSON writes it",
        "invalid escape" => "the text has a backslash before a letter that needs none",
        "recursion limit exceeded" => "lists and objects are nested more than 127 levels deep",
        _ if text.starts_with("control character") => {
            "the text has a line break or another control character: write it as \\n or \\u001b"
        }
        _ if text.contains("hex escape") || text.contains("unicode code point") => {
            "the text has a \\u escape that is not a character"
        }
        other => other,
    };
    format!(" is not valid JSON: {at}: {why}")
}

/// A value whose objects have no duplicate keys.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if values.contains_key(&key) {
                let why = format!("the key {} occurs twice", wording::quoted(&key));
                return Err(serde::de::Error::custom(why));
            }
            let Unique(value) = object.next_value()?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests;
