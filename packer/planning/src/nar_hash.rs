//! The hash of a store path's archive. Nix writes it in several forms, and each frontend reads a different one. The cache's
//! keys must be the same for all of them, so this module converts to one form.

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

/// Converts a SHA-256 to `sha256:` with hexadecimal digits. The input is SRI (`sha256-…`, base 64), or `sha256:` with digits of
/// base 16, of Nix's base 32 or of base 64. Other texts are returned unchanged.
pub fn canonical(text: &str) -> String {
    bytes(text).map_or_else(|| text.to_owned(), |bytes| format!("sha256:{}", HEXLOWER.encode(&bytes)))
}

/// Checks that a text is a SHA-256 in one of the forms that [`canonical`] reads. The error states the expected forms.
pub fn check(text: &str) -> Result<(), String> {
    bytes(text).map(drop).ok_or_else(|| format!("{EXPECTED}, but it is {text:?}"))
}

const EXPECTED: &str =
    "expected a SHA-256 as Nix prints it, sha256-... in base 64, or sha256:... in base 16 or 32";

fn bytes(text: &str) -> Option<Vec<u8>> {
    let bytes = match text.strip_prefix("sha256-") {
        Some(base64) => BASE64.decode(base64.as_bytes()).ok(),
        None => {
            let digits = text.strip_prefix("sha256:")?;
            match digits.len() {
                64 => HEXLOWER.decode(digits.as_bytes()).ok(),
                52 => NIX32.decode(&digits.bytes().rev().collect::<Vec<u8>>()).ok(),
                44 => BASE64.decode(digits.as_bytes()).ok(),
                _ => None,
            }
        }
    };
    bytes.filter(|bytes| bytes.len() == 32)
}

/// Reads the hash from the output of `nix path-info --json`: text, or since 2.33 an object with algorithm, format and hash.
/// Returns an empty text if there is none. The error states the expected forms.
pub fn from_json(value: &Value) -> Result<String, String> {
    let part = |name: &str| value.get(name).and_then(Value::as_str);
    let text = match (value.as_str(), part("algorithm"), part("format"), part("hash")) {
        (Some(text), ..) => text.to_owned(),
        (None, Some(algorithm), Some("base64"), Some(hash)) => format!("{algorithm}-{hash}"),
        (None, Some(algorithm), Some(_), Some(hash)) => format!("{algorithm}:{hash}"),
        _ if value.is_null() => String::new(),
        _ => return Err(format!("{EXPECTED}, or an object of algorithm, format and hash")),
    };
    match text.is_empty() {
        true => Ok(text),
        false => check(&text).map(|()| text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Values printed by `nix hash file --type sha256` with `--base16`, `--base32` and `--sri`.
    #[test]
    fn all_forms_of_a_hash_have_one_canonical_form() {
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
    fn hashes_are_read_from_text_and_objects() {
        let hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let base64 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        let object = |format: &str, hash: &str| {
            from_json(&json!({"algorithm": "sha256", "format": format, "hash": hash})).unwrap()
        };
        assert_eq!(object("base64", base64), format!("sha256-{base64}"));
        assert_eq!(object("base16", hex), format!("sha256:{hex}"));
        assert_eq!(from_json(&json!(format!("sha256-{base64}"))).unwrap(), format!("sha256-{base64}"));
        assert_eq!(canonical(&format!("sha256:{base64}")), format!("sha256:{hex}"));
        assert_eq!(from_json(&json!(null)).unwrap(), "");
        assert_eq!(
            from_json(&json!("sha256-x")).unwrap_err(),
            "expected a SHA-256 as Nix prints it, sha256-... in base 64, or sha256:... in base 16 or 32, but it is \"sha256-x\""
        );
    }
}
