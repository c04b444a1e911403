//! JSON with the same bytes as Go's `encoding/json`: `<`, `>`, `&`, U+2028 and U+2029 are escaped in strings, and the indented
//! form uses tabs. The digests of the spec and the config depend on it.

use std::io::{self, Write};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

struct Go<F>(F);

macro_rules! delegate {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $arg: $type)*) -> io::Result<()> {
            self.0.$name(writer $(, $arg)*)
        })*
    };
}

impl<F: Formatter> Formatter for Go<F> {
    delegate! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let escaped = rest[at..].chars().next().expect("find gave the place of a character");
            write!(writer, "\\u{:04x}", u32::from(escaped))?;
            rest = &rest[at + escaped.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Serializes like `json.Marshal`.
pub fn compact(value: &impl Serialize) -> Vec<u8> {
    serialize(value, CompactFormatter)
}

/// Serializes like `json.MarshalIndent(value, "", "\t")`.
pub fn indented(value: &impl Serialize) -> Vec<u8> {
    serialize(value, PrettyFormatter::with_indent(b"\t"))
}

fn serialize(value: &impl Serialize, formatter: impl Formatter) -> Vec<u8> {
    let mut out = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut out, Go(formatter)))
        .expect("our documents have string keys and are written to memory");
    out
}

/// Reads JSON null as the default value, like Go.
pub fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_in_go() {
        let value = serde_json::json!({"k<": ["a&b>\u{2028}\u{2029}\"\n\u{1}\u{8}é", {}, []]});
        assert_eq!(
            String::from_utf8(compact(&value)).unwrap(),
            r#"{"k\u003c":["a\u0026b\u003e\u2028\u2029\"\n\u0001\bé",{},[]]}"#
        );
        assert_eq!(
            String::from_utf8(indented(&serde_json::json!({"a": [1], "b": {}, "c": []}))).unwrap(),
            "{\n\t\"a\": [\n\t\t1\n\t],\n\t\"b\": {},\n\t\"c\": []\n}"
        );
    }
}
