//! Parsers for the values of options. An error says in one sentence what the value must be, with an example; clap prints the option
//! and the value before it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use bytesize::ByteSize;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};
use nixply_documents::Error;
use nixply_oci::{Platform, reference};
use nixply_packer::Codec;
use nixply_planning::{Store, Strategy};
use nixply_registry::content::Compression;

/// Parses a number of layers.
pub(crate) fn layers(text: &str) -> Result<u32, String> {
    whole_number(text, 1..=u32::MAX)
}

/// Parses a number of layers for a study.
pub(crate) fn few_layers(text: &str) -> Result<u16, String> {
    whole_number(text, 1..=u16::MAX)
}

/// Parses a number that may be 0.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    whole_number(text, 0..=usize::MAX)
}

fn whole_number<N>(text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    // Only digits: Rust's parser also accepts a plus.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && range.contains(number));
    number.ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
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
    Listed { parse: |text| text.parse().map_err(|_| format!("expected {}", Codec::forms())), others: &[] }
}

/// Parses a registry's codec. The help lists the names.
pub(crate) fn compression() -> impl TypedValueParser<Value = Compression> {
    Listed {
        parse: |text| text.parse().map_err(|_| format!("expected auto or {}", Codec::forms())),
        others: &["auto"],
    }
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
        assert_eq!(count("0"), Ok(0));
        for text in ["", "0", "-3", "+3", "1.5", "many", "4294967296", "1e3", " 1", "٣"] {
            assert_eq!(layers(text).unwrap_err(), "expected a whole number from 1 to 4294967295", "{text:?}");
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
        for text in ["80", "localhost:80", "127.0.0.1", "[::1]", "127.0.0.1:65536"] {
            assert!(address(text).unwrap_err().contains("127.0.0.1:5000"), "{text:?}");
        }
    }
}
