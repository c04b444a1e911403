//! References to images in registries: `HOST[:PORT]/REPOSITORY[:TAG]`. Source of the grammar: github.com/distribution/reference.

use std::fmt;
use std::str::FromStr;

use nixply_documents::wording::quoted;
use nixply_oci::reference;

use crate::error::{Error, Result};

/// The host of Docker Hub in references, and the host of its API.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A tag of a repository in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry's host, with the port if it has one.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

impl Reference {
    /// Returns the host, with its port, that answers requests.
    pub(super) fn api_host(&self) -> &str {
        if self.host == DOCKER_HUB.0 { DOCKER_HUB.1 } else { &self.host }
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// Parses a reference. The tag defaults to `latest`. Unlike Docker's references, it must name the registry.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::Reference { reference: text.into(), why: why.into() };
        let rest = text.strip_prefix("docker://").unwrap_or(text);
        if rest.contains('@') {
            return Err(wrong("it names a digest; name a tag"));
        }
        let (host, path) = rest
            .split_once('/')
            .ok_or_else(|| wrong("it names no registry; begin it with the registry's host"))?;
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err(wrong("it names no registry; begin it with the registry's host, such as docker.io"));
        }
        let (repository, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
        let repository = match host {
            "docker.io" if !repository.contains('/') => format!("library/{repository}"),
            _ => repository.to_owned(),
        };
        reference::check_name(&format!("{host}/{repository}"))
            .map_err(|_| wrong(&format!("{} is not a repository's name", quoted(&repository))))?;
        reference::check_tag(tag).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self { host: host.into(), repository, tag: tag.into() })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.host, self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_registry_repository_and_tag() {
        for (text, host, repository, tag) in [
            ("ghcr.io/o/app", "ghcr.io", "o/app", "latest"),
            ("docker://localhost:5000/app:1", "localhost:5000", "app", "1"),
            ("docker.io/debian:12", "docker.io", "library/debian", "12"),
            ("[::1]:5000/a/b:t", "[::1]:5000", "a/b", "t"),
        ] {
            let parsed: Reference = text.parse().unwrap();
            assert_eq!((&*parsed.host, &*parsed.repository, &*parsed.tag), (host, repository, tag), "{text}");
        }
        assert_eq!("docker.io/a/b".parse::<Reference>().unwrap().api_host(), "registry-1.docker.io");
    }

    #[test]
    fn wrong_references_are_errors_with_the_reason() {
        for (text, part) in [
            ("app:1", "it names no registry"),
            ("team/app:1", "it names no registry"),
            ("ghcr.io/App:1", "\"App\" is not a repository's name"),
            ("ghcr.io/a:b/c", "tag \"b/c\" is not valid"),
            ("ghcr.io/a:", "tag \"\" is not valid"),
            ("ghcr.io/a@sha256:0", "it names a digest"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
