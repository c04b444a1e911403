//! References to images in registries: `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`. Source of the grammar: github.com/distribution/reference.

use std::fmt;
use std::str::FromStr;

use nixply_documents::wording::quoted;
use nixply_oci::{Digest, reference};

use crate::error::{Error, Result};

/// The host of Docker Hub in references, and the host of its API.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// The registry's host, with the port if it has one.
    pub host: String,
    /// The repository's name in the registry.
    pub name: String,
}

impl Repository {
    /// Returns the host, with its port, that answers requests.
    pub(super) fn api_host(&self) -> &str {
        if self.is_of_docker_hub() { DOCKER_HUB.1 } else { &self.host }
    }

    /// Returns whether this is a repository of Docker Hub.
    pub(super) fn is_of_docker_hub(&self) -> bool {
        self.host == DOCKER_HUB.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

/// A manifest of a repository: the one of a tag, or the one with a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// A tag.
    Tag(String),
    /// A digest.
    Digest(Digest),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A reference to a manifest in a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The repository.
    pub repository: Repository,
    /// The manifest.
    pub version: Version,
}

impl Reference {
    /// Parses a reference as Docker, podman and skopeo do: without a registry, it is one of Docker Hub.
    pub fn on_docker_hub_by_default(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("docker://").unwrap_or(text);
        match rest.split_once('/') {
            Some(("index.docker.io", name)) => format!("{}/{name}", DOCKER_HUB.0).parse(),
            Some((host, _)) if is_host(host) => rest.parse(),
            _ => format!("{}/{rest}", DOCKER_HUB.0).parse(),
        }
    }

    /// Returns the reference with another tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        reference::check_tag(tag).map_err(|error| Error::Reference {
            reference: format!("{}:{tag}", self.repository),
            why: error.to_string(),
        })?;
        Ok(Self { repository: self.repository.clone(), version: Version::Tag(tag.into()) })
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// Parses a reference. The tag defaults to `latest`. A digest takes precedence over a tag. Unlike Docker's references, it must name
    /// the registry.
    fn from_str(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("docker://").unwrap_or(text);
        // A password must not appear in the error.
        let user = rest.split_once('/').and_then(|(host, _)| host.rsplit_once('@')).map(|(user, _)| user);
        let shown = user.map_or(text, |user| &rest[user.len() + 1..]);
        let wrong = |why: &str| Error::Reference { reference: shown.into(), why: why.into() };
        if user.is_some() {
            return Err(wrong("a user is not a part of it"));
        }
        if let Some((scheme, _)) = rest.split_once("://") {
            return Err(wrong(&format!("leave out {scheme}://")));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let digest: Option<Digest> = digest.map(str::parse).transpose().map_err(|error| {
            let error: nixply_oci::ParseDigestError = error;
            wrong(&error.to_string())
        })?;
        let (host, path) = rest
            .split_once('/')
            .ok_or_else(|| wrong("it names no registry; begin it with the registry's host"))?;
        if !is_host(host) {
            return Err(wrong("it names no registry; begin it with the registry's host, such as docker.io"));
        }
        let (name, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
        let name = match host {
            "docker.io" if !name.contains('/') => format!("library/{name}"),
            _ => name.to_owned(),
        };
        reference::check_name(&format!("{host}/{name}"))
            .map_err(|_| wrong(&format!("{} is not a repository's name", quoted(&name))))?;
        reference::check_tag(tag).map_err(|error| wrong(&error.to_string()))?;
        let version = digest.map_or_else(|| Version::Tag(tag.into()), Version::Digest);
        Ok(Self { repository: Repository { host: host.into(), name }, version })
    }
}

/// Returns whether the first part of a reference is a registry's host.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if matches!(self.version, Version::Tag(_)) { ':' } else { '@' };
        write!(f, "{}{separator}{}", self.repository, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_registry_repository_and_version() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, host, name, version) in [
            ("ghcr.io/o/app", "ghcr.io", "o/app", "latest"),
            ("docker://localhost:5000/app:1", "localhost:5000", "app", "1"),
            ("docker.io/debian:12", "docker.io", "library/debian", "12"),
            ("[::1]:5000/a/b:t", "[::1]:5000", "a/b", "t"),
            (&format!("ghcr.io/a@{digest}"), "ghcr.io", "a", &digest),
            (&format!("ghcr.io/a:1@{digest}"), "ghcr.io", "a", &digest),
        ] {
            let parsed: Reference = text.parse().unwrap();
            let Repository { host: found, name: found_name } = &parsed.repository;
            assert_eq!((&**found, &**found_name), (host, name), "{text}");
            assert_eq!(parsed.version.to_string(), version, "{text}");
            assert_eq!(parsed.to_string().parse::<Reference>().unwrap(), parsed, "{text}");
        }
        let hub = "docker.io/a/b".parse::<Reference>().unwrap();
        assert_eq!(hub.repository.api_host(), "registry-1.docker.io");
        assert_eq!(hub.with_tag("t").unwrap().to_string(), "docker.io/a/b:t");
        assert!(hub.with_tag("a/b").unwrap_err().to_string().contains("tag \"a/b\" is not valid"));
    }

    /// The results of skopeo.
    #[test]
    fn references_without_a_registry_are_of_docker_hub() {
        for (text, reference) in [
            ("web", "docker.io/library/web:latest"),
            ("me/web:1", "docker.io/me/web:1"),
            ("ghcr.ioweb:1", "docker.io/library/ghcr.ioweb:1"),
            ("index.docker.io/web:1", "docker.io/library/web:1"),
            ("docker://localhost/web:1", "localhost/web:1"),
            ("127.0.0.1:5000/web:1", "127.0.0.1:5000/web:1"),
        ] {
            let parsed = Reference::on_docker_hub_by_default(text).unwrap();
            assert_eq!(parsed.to_string(), reference, "{text}");
        }
        assert!(Reference::on_docker_hub_by_default("Me/web").is_err());
    }

    #[test]
    fn wrong_references_are_errors_with_the_reason() {
        for (text, part) in [
            ("app:1", "it names no registry"),
            ("team/app:1", "it names no registry"),
            ("ghcr.io/App:1", "\"App\" is not a repository's name"),
            ("ghcr.io/a:b/c", "tag \"b/c\" is not valid"),
            ("ghcr.io/a:", "tag \"\" is not valid"),
            ("ghcr.io/a@sha256:0", "digest \"sha256:0\" is not valid"),
            ("https://ghcr.io/team/app:1", "leave out https://"),
            ("me:PLANTED@ghcr.io/app:1", "\"ghcr.io/app:1\" is not valid: a user is not a part of it"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(!error.contains("PLANTED"), "{error}");
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
