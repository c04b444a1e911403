//! Parses the requested part of a blob (RFC 9110, 14). The server answers a single range with that part, and several ranges or a
//! malformed one with the whole blob, as the RFC allows.

use std::ops::Range;

/// The part to answer with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The whole blob.
    Whole,
    /// These bytes, at least one.
    Bytes(Range<u64>),
    /// A range outside the blob.
    Outside,
}

impl Part {
    /// Parses a Range header's value for a blob with `size` bytes.
    pub(super) fn of(value: &str, size: u64) -> Self {
        let Some(range) = value.trim().strip_prefix("bytes=") else { return Self::Whole };
        let Some((first, last)) = range.trim().split_once('-') else { return Self::Whole };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // A number with too many digits is beyond the end.
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        let (begin, end) = match (number(first), number(last), first, last) {
            (Some(first), Some(last), ..) if first <= last => (first, last.saturating_add(1)),
            (Some(first), None, _, "") => (first, size),
            (None, Some(count), "", _) => (if count == 0 { size } else { size.saturating_sub(count) }, size),
            _ => return Self::Whole,
        };
        if begin >= size { Self::Outside } else { Self::Bytes(begin..end.min(size)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ranges_are_parsed() {
        for (value, part) in [
            ("bytes=0-0", Part::Bytes(0..1)),
            ("bytes=0-9", Part::Bytes(0..10)),
            ("bytes=3-", Part::Bytes(3..10)),
            ("bytes=3-99999999999999999999", Part::Bytes(3..10)),
            ("bytes=-4", Part::Bytes(6..10)),
            ("bytes=-40", Part::Bytes(0..10)),
            ("bytes=10-", Part::Outside),
            ("bytes=10-11", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=4-3", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=x", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(Part::of(value, 10), part, "{value}");
        }
    }
}
