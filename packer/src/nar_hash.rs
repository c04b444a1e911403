//! The hash of a store path's archive. Nix writes it in several forms, each door meets another one, and the cache's keys
//! have to be the same at all of them.

use std::sync::LazyLock;

use data_encoding::{BASE64, BitOrder, Encoding, HEXLOWER, Specification};
use serde_json::Value;

/// Nix's base 32: digits without e, o, t and u, the last bits of the hash first. Source: the Nix manual, "Nix32 encoding".
static NIX32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("0123456789abcdfghijklmnpqrsvwxyz");
    specification.bit_order = BitOrder::LeastSignificantFirst;
    specification.encoding().expect("32 different symbols")
});

/// A SHA-256 as `sha256:` with hexadecimal digits, whether it was SRI (`sha256-…`, base 64), or `sha256:` with digits of
/// base 16 or of Nix's base 32. Anything else stays as it is.
pub fn canonical(text: &str) -> String {
    let bytes =
        text.strip_prefix("sha256-").and_then(|base64| BASE64.decode(base64.as_bytes()).ok()).or_else(|| {
            let digits = text.strip_prefix("sha256:")?;
            match digits.len() {
                64 => HEXLOWER.decode(digits.as_bytes()).ok(),
                52 => NIX32.decode(&digits.bytes().rev().collect::<Vec<u8>>()).ok(),
                _ => None,
            }
        });
    match bytes.filter(|bytes| bytes.len() == 32) {
        Some(bytes) => format!("sha256:{}", HEXLOWER.encode(&bytes)),
        None => text.to_owned(),
    }
}

/// The hash as `nix path-info --json` prints it: text, or since 2.33 an object of algorithm, format and hash. Empty where it
/// is neither.
pub(crate) fn from_json(value: &Value) -> String {
    let part = |name: &str| value.get(name).and_then(Value::as_str);
    match (value.as_str(), part("algorithm"), part("format"), part("hash")) {
        (Some(text), ..) => text.to_owned(),
        (None, Some(algorithm), Some("base64"), Some(hash)) => format!("{algorithm}-{hash}"),
        (None, Some(algorithm), Some(_), Some(hash)) => format!("{algorithm}:{hash}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Values of `nix hash file --type sha256` with `--base16`, `--base32` and `--sri`.
    #[test]
    fn one_hash_has_one_form() {
        let hex = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        for text in [
            hex,
            "sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
            "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
        ] {
            assert_eq!(canonical(text), hex);
        }
        for other in ["", "sha256-x", "sha256:00", "sha512-x", "md5:00"] {
            assert_eq!(canonical(other), other);
        }
    }

    #[test]
    fn nix_prints_text_or_an_object() {
        let object = |format: &str| from_json(&json!({"algorithm": "sha256", "format": format, "hash": "x"}));
        assert_eq!(from_json(&json!("sha256-x")), "sha256-x");
        assert_eq!((object("base64"), object("base16")), ("sha256-x".into(), "sha256:x".into()));
        assert_eq!(from_json(&json!(null)), "");
    }
}
