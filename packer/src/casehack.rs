//! Nix's case hack: on case-insensitive file systems (macOS) the store appends `~nix~case~hack~N` to names that differ
//! only in case. The image must have the true names (nix2container#37).

use std::borrow::Cow;

const SUFFIX: &[u8] = b"~nix~case~hack~";

/// Removes the case hack's suffix from every component of `path`.
pub(crate) fn strip_case_hack(path: &[u8]) -> Cow<'_, [u8]> {
    let at = |part: &[u8]| part.windows(SUFFIX.len()).position(|window| window == SUFFIX);
    if at(path).is_none() {
        return Cow::Borrowed(path);
    }
    let parts = path.split(|byte| *byte == b'/').map(|part| &part[..at(part).unwrap_or(part.len())]);
    Cow::Owned(parts.collect::<Vec<_>>().join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// nix2container's TestRemoveNixCaseHackSuffix.
    #[test]
    fn nix2container_37_case_hack_suffixes_are_cut() {
        assert_eq!(&*strip_case_hack(b"filename~nix~case~hack~1"), b"filename");
        assert_eq!(&*strip_case_hack(b"/path~nix~case~hack~1/filename"), b"/path/filename");
        assert_eq!(&*strip_case_hack(b"filename~nix~"), b"filename~nix~");
    }
}
