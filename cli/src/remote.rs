//! Images that the user names either as a file or as a reference to a registry.

use std::path::Path;

use anyhow::{Error, Result};
use nixply_registry::Error as RegistryError;
use nixply_registry::client::{Client, Reader, Reference, RemoteImage};

use crate::arguments::PlatformArgs;
use crate::diagnosis;
use crate::failure::{hinted, misused};

/// Scheme of a reference, as in skopeo's arguments.
const SCHEME: &str = "docker://";

/// Returns the reference to a registry, or `None` for a file. A file that exists takes precedence, and so does the name of a JSON file;
/// only a text with `docker://` is always a reference.
pub(crate) fn reference(word: &Path) -> Result<Option<Reference>> {
    let Some(text) = word.to_str() else { return Ok(None) };
    let is_file = text == "-" || text.ends_with(".json") || word.symlink_metadata().is_ok();
    if !text.starts_with(SCHEME) && (is_file || !names_host(text)) {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: RegistryError| misused(error.to_string()))
}

/// Returns whether a text begins with a registry's host. Other paths may do so as well, but not those that begin with a dot.
fn names_host(text: &str) -> bool {
    let host = text.split_once('/').map(|(host, _)| host);
    host.is_some_and(|host| host == "localhost" || host.contains(['.', ':']) && !host.starts_with('.'))
}

/// Reads an image in a registry.
pub(crate) fn read(
    client: &Client,
    reference: &Reference,
    platform: &PlatformArgs,
) -> Result<(Reader, RemoteImage)> {
    let reader = client.reader(&reference.repository).map_err(diagnosis::of_registry)?;
    let image = reader.image(&reference.version, &platform.platform()?).map_err(diagnosis::of_registry)?;
    Ok((reader, image))
}

/// Adds to the error of a host that does not answer that the word was read as a reference. It may have been meant as a file.
pub(crate) fn explained(error: Error, word: &Path) -> Error {
    let is_unanswered = matches!(error.downcast_ref(), Some(RegistryError::Request { .. }));
    match word.to_str() {
        Some(text) if is_unanswered && !text.starts_with(SCHEME) => {
            hinted(error, format!("{text} is not a file, so it was read as an image in a registry"))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_take_precedence_over_references() {
        let file = tempfile::tempdir().unwrap();
        let existing = file.path().join("ghcr.io");
        std::fs::write(&existing, "").unwrap();
        for (word, expected) in [
            ("ghcr.io/team/app:1", Some("ghcr.io/team/app:1")),
            ("docker://localhost/app", Some("localhost/app:latest")),
            ("127.0.0.1:5000/app", Some("127.0.0.1:5000/app:latest")),
            ("docker://ghcr.io/team/app.json", Some("ghcr.io/team/app.json:latest")),
            ("-", None),
            ("image.json", None),
            ("out.d/image.json", None),
            ("./out.d/image", None),
            ("../result", None),
            ("/nix/store/x.y/z", None),
            ("result", None),
            ("out/result", None),
            (existing.to_str().unwrap(), None),
        ] {
            let found = reference(Path::new(word)).unwrap().map(|reference| reference.to_string());
            assert_eq!(found.as_deref(), expected, "{word}");
        }
        for word in ["docker://app", "ghcr.io/Team/app"] {
            let error = reference(Path::new(word)).unwrap_err().to_string();
            assert!(error.contains("is not valid"), "{error}");
        }
    }
}
