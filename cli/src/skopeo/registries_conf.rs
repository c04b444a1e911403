//! Finds out whether `registries.conf` has rules for copying to a registry that only skopeo applies. Mirrors and rewritten locations
//! are for pulling. Source: containers-registries.conf(5).

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use etcetera::BaseStrategy;
use nixply_registry::client::Repository;
use serde::Deserialize;

/// Environment variable with the path of another file.
const VARIABLE: &str = "CONTAINERS_REGISTRIES_CONF";

/// The system's directory.
const SYSTEM: &str = "/etc/containers";

/// The credential helper that means the auth files.
const AUTH_FILES: &str = "containers-auth.json";

/// The parts of the file that apply to copying to a registry.
#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    registry: Vec<Registry>,
    registries: Lists,
    #[serde(rename = "credential-helpers")]
    credential_helpers: Vec<String>,
}

#[derive(Deserialize)]
struct Registry {
    location: Option<String>,
    prefix: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
}

/// The lists of the format's first version.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Lists {
    insecure: List,
    block: List,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct List {
    registries: Vec<String>,
}

/// Returns whether a file has rules for copying to this repository, or cannot be read. skopeo then applies them, or reports the
/// error.
pub(crate) fn has_rules_for(repository: &Repository) -> bool {
    files().iter().any(|path| match fs::read_to_string(path) {
        Ok(text) => applies(&text, repository),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    })
}

/// Returns the files that skopeo reads. Later ones take precedence, but a rule in any of them counts here.
fn files() -> Vec<PathBuf> {
    let user = etcetera::base_strategy::choose_base_strategy().ok();
    let user = user.map(|base| base.config_dir().join("containers"));
    let directories: Vec<PathBuf> = [PathBuf::from(SYSTEM)].into_iter().chain(user).collect();
    let mut files = match env::var_os(VARIABLE).filter(|file| !file.is_empty()) {
        Some(file) => vec![file.into()],
        None => directories.iter().map(|directory| directory.join("registries.conf")).collect(),
    };
    files.extend(directories.iter().flat_map(|directory| parts(&directory.join("registries.conf.d"))));
    files
}

/// Returns the files in a directory of parts.
fn parts(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "conf"))
        .collect()
}

fn applies(text: &str, repository: &Repository) -> bool {
    let Ok(file) = toml::from_str::<File>(text) else { return true };
    let name = repository.to_string();
    let of_name = |registry: &&Registry| {
        let location = registry.location.as_deref();
        let prefix = registry.prefix.as_deref().filter(|prefix| !prefix.is_empty()).or(location);
        prefix.is_some_and(|prefix| matches(prefix, repository, &name))
    };
    let Lists { insecure, block } = &file.registries;
    file.credential_helpers.iter().any(|helper| helper != AUTH_FILES)
        || file.registry.iter().filter(of_name).any(|registry| registry.insecure || registry.blocked)
        || insecure.registries.iter().chain(&block.registries).any(|host| *host == repository.host)
}

/// Whether a prefix, as in `*.example.com` or `example.com:5000/team`, is one of the repository.
fn matches(prefix: &str, repository: &Repository, name: &str) -> bool {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = repository.host.split(':').next().unwrap_or_default();
        return [&*repository.host, host].iter().any(|host| host.ends_with(domain));
    }
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_a_registry_are_found() {
        let repository = Repository { host: "r.example:5000".into(), name: "team/app".into() };
        let registry =
            |fields: &str| format!("unqualified-search-registries = [\"docker.io\"]\n[[registry]]\n{fields}");
        for (text, expected) in [
            (String::new(), false),
            (registry("location = \"r.example:5000\"\ninsecure = true"), true),
            (registry("location = \"r.example:5000\""), false),
            (registry("location = \"r.example:5000\"\nblocked = true"), true),
            (registry("location = \"r.example\"\ninsecure = true"), false),
            (registry("prefix = \"r.example:5000/team\"\nlocation = \"o\"\ninsecure = true"), true),
            (registry("prefix = \"r.example:5000/te\"\ninsecure = true"), false),
            (registry("prefix = \"*.example\"\ninsecure = true"), true),
            (registry("prefix = \"*.invalid\"\ninsecure = true"), false),
            (
                registry(
                    "location = \"r.example:5000\"\n[[registry.mirror]]\nlocation = \"m\"\ninsecure = true",
                ),
                false,
            ),
            ("[registries.insecure]\nregistries = [\"r.example:5000\"]".into(), true),
            ("[registries.search]\nregistries = [\"r.example:5000\"]".into(), false),
            ("credential-helpers = [\"containers-auth.json\"]".into(), false),
            ("credential-helpers = [\"secretservice\"]".into(), true),
            ("not TOML".into(), true),
        ] {
            assert_eq!(applies(&text, &repository), expected, "{text}");
        }
    }
}
