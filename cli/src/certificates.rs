//! Finds certificates for registries in the directories of podman, skopeo and Docker. Source: containers-certs.d(5).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use nixply_registry::client::{FindTls, Tls};
use nixply_registry::{Error, Result};

/// The system's directories with one directory per registry.
const DIRECTORIES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Directories with certificates.
pub(crate) struct CertificateFiles {
    /// The directory that the user names, for all registries.
    given: Option<PathBuf>,
    /// Whether registries without certificates use TLS as well, also on loopback.
    encrypted: bool,
}

impl CertificateFiles {
    /// Reads the user's directory, or else those of podman, skopeo and Docker.
    pub(crate) fn new(given: Option<PathBuf>) -> Self {
        Self { given, encrypted: false }
    }

    /// Uses TLS for all registries, also for those on loopback.
    pub(crate) fn encrypted(self) -> Self {
        Self { encrypted: true, ..self }
    }

    fn directories(&self, host: &str) -> Vec<PathBuf> {
        if let Some(given) = &self.given {
            return vec![given.clone()];
        }
        let base = etcetera::base_strategy::choose_base_strategy().ok();
        let user = base.map(|base| base.config_dir().join("containers/certs.d"));
        let all = user.into_iter().chain(DIRECTORIES.map(PathBuf::from));
        all.map(|directory| directory.join(host)).collect()
    }
}

impl FindTls for CertificateFiles {
    /// Reads the first directory that exists.
    fn find(&self, host: &str) -> Result<Option<Tls>> {
        let failed = |why: String| Error::Certificates { host: host.into(), why };
        for directory in self.directories(host) {
            match fs::read_dir(&directory) {
                Ok(_) => return read(&directory).map(Some).map_err(failed),
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.given.is_none() => {}
                Err(error) => return Err(failed(format!("{}: {error}", directory.display()))),
            }
        }
        Ok(self.encrypted.then(Tls::default))
    }
}

/// Reads a directory's certificates, in the order of their names.
fn read(directory: &Path) -> Result<Tls, String> {
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| failed(directory, error))?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    let mut tls = Tls::default();
    for path in paths {
        let read = |path: &Path| fs::read(path).map_err(|error| failed(path, error));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => tls.authorities.push(read(&path)?),
            Some("cert") => {
                let mut identity = read(&path)?;
                identity.push(b'\n');
                identity.extend(read(&path.with_extension("key"))?);
                tls.identity = Some(identity);
            }
            _ => {}
        }
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_and_the_identity_are_read_from_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let find = || CertificateFiles::new(Some(directory.path().into())).find("r.example");
        assert!(find().unwrap() == Some(Tls::default()));
        put("b.crt", "B");
        put("a.crt", "A");
        put("README", "x");
        let authorities = vec![b"A".into(), b"B".into()];
        assert!(find().unwrap() == Some(Tls { authorities, identity: None }));
        put("client.cert", "C");
        let error = find().err().unwrap().to_string();
        assert!(error.starts_with("cannot read the certificates for r.example: "), "{error}");
        assert!(error.contains("client.key"), "{error}");
        put("client.key", "K");
        assert!(find().unwrap().unwrap().identity == Some(b"C\nK".into()));
        let missing = CertificateFiles::new(Some("/nonexistent".into())).find("r.example").err().unwrap();
        assert!(missing.to_string().contains("/nonexistent: No such file"), "{missing}");
    }

    #[test]
    fn directories_are_those_of_the_host() {
        let directories = CertificateFiles::new(None).directories("r.example:5000");
        assert!(directories.contains(&"/etc/containers/certs.d/r.example:5000".into()), "{directories:?}");
        // No test machine has certificates for this host.
        let find = |files: CertificateFiles| files.find("none.example").unwrap();
        assert!(find(CertificateFiles::new(None)).is_none());
        assert!(find(CertificateFiles::new(None).encrypted()) == Some(Tls::default()));
    }
}
