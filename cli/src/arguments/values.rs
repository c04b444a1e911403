//! Parsers for the values of options. An error says in one sentence what the value must be, with an example; clap prints the option
//! and the value before it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use bytesize::ByteSize;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};
use nixply_documents::argument::MAX_LAYERS;
use nixply_documents::{Error, wording};
use nixply_oci::{Platform, reference};
use nixply_packer::Codec;
use nixply_planning::{Store, Strategy};
use nixply_registry::content::Compression;

/// Parses a number of layers, with the limits of `maxLayers` in a request.
pub(crate) fn layers(text: &str) -> Result<u64, String> {
    whole_number(text, 1..=MAX_LAYERS)
}

/// Parses a number of layers for a study.
pub(crate) fn few_layers(text: &str) -> Result<u16, String> {
    whole_number(text, 1..=u16::MAX)
}

/// Parses a number that may be 0 and has no maximum. A number that is too large for the type is as good as its largest value.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    match is_digits(text) {
        true => Ok(text.parse().unwrap_or(usize::MAX)),
        false => Err("expected a whole number of at least 0".to_owned()),
    }
}

fn whole_number<N>(text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: FromStr + PartialOrd + std::fmt::Display,
{
    let number = text.parse().ok().filter(|number| is_digits(text) && range.contains(number));
    number.ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
}

/// Whether a text is only digits: Rust's parser also accepts a plus.
fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses a size in bytes.
pub(crate) fn size(text: &str) -> Result<ByteSize, String> {
    let starts_with_digit = text.trim().starts_with(|letter: char| letter.is_ascii_digit());
    let size = text.trim().parse().ok().filter(|_| starts_with_digit);
    size.ok_or_else(|| "expected a size such as 500MB or 20GiB, or a number of bytes".to_owned())
}

/// Parses the name of a strategy. The help lists the names.
pub(crate) fn strategy() -> impl TypedValueParser<Value = Strategy> {
    let names = PossibleValuesParser::new(Strategy::automatic().map(|strategy| {
        let former =
            Strategy::FORMER_NAMES.into_iter().filter(move |(_, now)| *now == strategy).map(|(name, _)| name);
        PossibleValue::new(strategy.name()).aliases(former)
    }));
    names.try_map(|name| Strategy::from_name(&name))
}

/// Parses the codec of blobs. The help lists the names.
pub(crate) fn codec() -> impl TypedValueParser<Value = Codec> {
    Listed { parse: |text| parse_codec(text, &[]), others: &[] }
}

/// Parses a registry's codec. The help lists the names.
pub(crate) fn compression() -> impl TypedValueParser<Value = Compression> {
    Listed { parse: |text| parse_codec(text, &AUTO), others: &AUTO }
}

/// The value of a registry's `--compression` that is not a codec.
const AUTO: [&str; 1] = ["auto"];

/// Parses a codec, or one of `others`. An error lists the valid forms and suggests the most similar name.
fn parse_codec<T: FromStr>(text: &str, others: &[&'static str]) -> Result<T, String> {
    text.parse().map_err(|_| {
        let others_or: String = others.iter().map(|other| format!("{other} or ")).collect();
        let (name, level) = text.split_at(text.find(':').unwrap_or(text.len()));
        let names = others.iter().copied().chain(Codec::all().map(Codec::name));
        // A right name has a wrong level.
        let near = wording::nearest(name, names).filter(|near| *near != name);
        let suggestion = near.map(|near| {
            let with_level = format!("{near}{level}");
            let meant = if T::from_str(&with_level).is_ok() { &*with_level } else { near };
            format!("; did you mean {meant:?}?")
        });
        format!("expected {others_or}{}{}", Codec::forms(), suggestion.unwrap_or_default())
    })
}

/// A parser of a codec, which may have a level. Help and completions list the codecs' names and `others`.
#[derive(Clone)]
struct Listed<T> {
    parse: fn(&str) -> Result<T, String>,
    others: &'static [&'static str],
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Listed<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, option: Option<&Arg>, text: &OsStr) -> Result<T, clap::Error> {
        self.parse.parse_ref(command, option, text)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = self.others.iter().copied().chain(Codec::all().map(Codec::name));
        Some(Box::new(names.map(PossibleValue::new)))
    }
}

/// Parses a store directory.
pub(crate) fn store(text: &str) -> Result<Store, String> {
    Store::named(text).map_err(nixply_planning::Error::why)
}

/// Parses a tag.
pub(crate) fn tag(text: &str) -> Result<String, String> {
    reference::check_tag(text).map(|()| text.to_owned()).map_err(Error::why)
}

/// Parses a platform.
pub(crate) fn platform(text: &str) -> Result<Platform, String> {
    text.parse().map_err(Error::why)
}

/// Parses an image name, optionally followed by a colon and a tag. A colon before a slash belongs to a registry's port.
pub(crate) fn name_and_tag(text: &str) -> Result<(String, String), String> {
    let (name, tag) = match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (text, "latest"),
    };
    let checked = reference::canonical_name(name).and_then(|_| reference::check_tag(tag));
    checked.map(|()| (name.to_owned(), tag.to_owned())).map_err(Error::why)
}

/// Parses the address that a server listens on.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an address of this machine and a port, such as 127.0.0.1:5000, [::1]:5000, or 127.0.0.1:0 for a free port"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_within_their_range() {
        assert_eq!(layers("12"), Ok(12));
        assert_eq!(layers("1000000"), Ok(MAX_LAYERS));
        for text in ["", "0", "-3", "+3", "1.5", "many", "1000001", "1e3", " 1", "٣"] {
            assert_eq!(layers(text).unwrap_err(), "expected a whole number from 1 to 1000000", "{text:?}");
        }
        assert_eq!((count("0"), count("18446744073709551616")), (Ok(0), Ok(usize::MAX)));
        for text in ["", "-3", "+3", "1.5", "many"] {
            assert_eq!(count(text).unwrap_err(), "expected a whole number of at least 0", "{text:?}");
        }
        assert!(few_layers("65536").unwrap_err().ends_with("from 1 to 65535"));
    }

    #[test]
    fn tags_follow_the_last_colon() {
        for (text, name, tag) in [
            ("a", "a", "latest"),
            ("a/b:c", "a/b", "c"),
            ("host:5000/a", "host:5000/a", "latest"),
            ("h:1/a:t", "h:1/a", "t"),
        ] {
            assert_eq!(name_and_tag(text).unwrap(), (name.into(), tag.into()));
        }
        for text in ["", ".", "..", "A B", "a:", "a:.", "a:-x", ":t", "../x", "a:b c"] {
            name_and_tag(text).unwrap_err();
        }
        for text in ["", ".", "..", ".-x", "a b", "a/b"] {
            assert!(tag(text).unwrap_err().starts_with("expected 1 to 128"), "{text:?}");
        }
    }

    #[test]
    fn a_store_directory_is_absolute() {
        assert_eq!(store("/nix/store/").unwrap(), Store::at("/nix/store"));
        for text in ["", "/", "store", "./store", "/nix/../store", "//nix", "/nix/./store", "~/store"] {
            assert!(store(text).unwrap_err().starts_with("expected an absolute path"), "{text:?}");
        }
    }

    #[test]
    fn sizes_start_with_a_number() {
        assert_eq!(size("500MB").unwrap().as_u64(), 500_000_000);
        assert_eq!(size("1.5 GiB").unwrap().as_u64(), 3 << 29);
        for text in ["", "many", "-5GB", "GB", "5 elephants", "1.2.3MB", "inf", "NaN"] {
            assert!(size(text).unwrap_err().starts_with("expected a size such as 500MB"), "{text:?}");
        }
    }

    #[test]
    fn errors_about_codecs_and_addresses_have_examples() {
        let error = codec().parse_ref(&Command::new("a"), None, OsStr::new("xz")).unwrap_err().to_string();
        assert!(error.contains(&format!("expected {}", Codec::forms())), "{error}");
        let error = compression().parse_ref(&Command::new("a"), None, OsStr::new("zstd:20")).unwrap_err();
        let expected = format!("expected auto or {}", Codec::forms());
        assert!(error.to_string().contains(&expected), "{error}");
        for (text, suggestion) in [
            ("zsdt", "; did you mean \"zstd\"?"),
            ("zsdt:9", "; did you mean \"zstd:9\"?"),
            ("GZIP:99", "; did you mean \"gzip\"?"),
            ("zstd:99", ""),
            ("lz4", ""),
            ("auot", ""),
        ] {
            let error = parse_codec::<Codec>(text, &[]).unwrap_err();
            assert_eq!(error, format!("expected {}{suggestion}", Codec::forms()), "{text}");
        }
        let error = parse_codec::<Compression>("auot", &AUTO).unwrap_err();
        assert_eq!(error, format!("{expected}; did you mean \"auto\"?"));
        for text in ["80", "localhost:80", "127.0.0.1", "[::1]", "127.0.0.1:65536"] {
            assert!(address(text).unwrap_err().contains("127.0.0.1:5000"), "{text:?}");
        }
    }
}
