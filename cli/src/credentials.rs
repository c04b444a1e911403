//! The user's credentials for registries: in the files of podman, skopeo and Docker, and from credential helpers. Sources:
//! containers-auth.json(5), Docker's "Credential helper protocol".

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

use data_encoding::BASE64;
use etcetera::BaseStrategy;
use nixply_documents::go_json::null_is_default;
use nixply_documents::wording::quoted;
use nixply_registry::client::{Credentials, FindCredentials};
use nixply_registry::{Error, Result};
use serde::Deserialize;

use crate::process;

/// Docker Hub's key in Docker's files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// User name with which a credential helper returns a refresh token.
const TOKEN_USER: &str = "<token>";

/// The files with credentials, in the order in which they are searched.
pub(crate) struct CredentialFiles {
    files: Vec<PathBuf>,
    /// Whether the first file must exist.
    required: bool,
}

/// A file with credentials.
#[derive(Deserialize, Default)]
struct AuthFile {
    #[serde(default, deserialize_with = "null_is_default")]
    auths: BTreeMap<String, Option<Auth>>,
    #[serde(default, rename = "credHelpers", deserialize_with = "null_is_default")]
    helpers: BTreeMap<String, Option<String>>,
    #[serde(default, rename = "credsStore")]
    default_helper: Option<String>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

/// The answer of a credential helper.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl CredentialFiles {
    /// Returns the files of this user: that in `REGISTRY_AUTH_FILE`, otherwise those of podman, skopeo and Docker.
    pub(crate) fn of_user() -> Self {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(file) = variable("REGISTRY_AUTH_FILE") {
            return Self { files: vec![file], required: true };
        }
        let base = etcetera::base_strategy::choose_base_strategy().ok();
        let home = base.as_ref().map(|base| base.home_dir().to_owned());
        let runtime = variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers"));
        let runtime = runtime.or_else(runtime_of_user).map(|directory| directory.join("auth.json"));
        let config = base.map(|base| base.config_dir().join("containers/auth.json"));
        let docker = variable("DOCKER_CONFIG").or_else(|| home.map(|home| home.join(".docker")));
        let docker = docker.map(|directory| directory.join("config.json"));
        Self { files: [runtime, config, docker].into_iter().flatten().collect(), required: false }
    }

    /// Reads only this file.
    pub(crate) fn only(file: &Path) -> Self {
        Self { files: vec![file.into()], required: true }
    }

    fn find_in(&self, file: &Path, host: &str, repository: &str) -> Result<Option<Credentials>> {
        let failed = |why: String| Error::Credentials { host: host.into(), why };
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.required => return Ok(None),
            Err(error) => return Err(failed(format!("{}: {error}", file.display()))),
        };
        // serde's message could contain a secret.
        let read: AuthFile = serde_json::from_slice(&text).map_err(|error| {
            failed(format!("{} is not an auth file (line {})", file.display(), error.line()))
        })?;
        let keys = keys(host, repository);
        // A helper for this host is newer than a password that Docker has left in the file.
        if let Some(helper) = entry(&read.helpers, &keys).filter(|helper| !helper.is_empty())
            && let Some(found) = ask(helper, host)?
        {
            return Ok(Some(found));
        }
        if let Some(auth) = entry(&read.auths, &keys) {
            if let Some(token) = auth.identity_token.clone().filter(|token| !token.is_empty()) {
                return Ok(Some(Credentials::IdentityToken(token)));
            }
            if let Some(encoded) = auth.auth.as_deref().filter(|auth| !auth.is_empty()) {
                let decoded = BASE64.decode(encoded.trim().as_bytes()).ok();
                let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
                let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
                let (user, password) = pair.ok_or_else(|| {
                    failed(format!("the entry in {} is not USER:PASSWORD in base64", file.display()))
                })?;
                // Docker pads passwords with zeros.
                let (user, password) = (user.to_owned(), password.trim_end_matches('\0').to_owned());
                return Ok(Some(Credentials::Basic { user, password }));
            }
        }
        let helper = read.default_helper.as_ref().filter(|helper| !helper.is_empty());
        helper.map_or(Ok(None), |helper| ask(helper, host))
    }
}

impl FindCredentials for CredentialFiles {
    fn find(&self, host: &str, repository: &str) -> Result<Option<Credentials>> {
        for file in &self.files {
            if let Some(found) = self.find_in(file, host, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Returns the directory of podman and skopeo for users without `XDG_RUNTIME_DIR`.
fn runtime_of_user() -> Option<PathBuf> {
    cfg!(target_os = "linux")
        .then(|| format!("/run/containers/{}", rustix::process::getuid().as_raw()).into())
}

/// Returns the keys of a repository's entry, the most specific one first.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let full = format!("{host}/{repository}");
    let mut keys: Vec<String> =
        full.match_indices('/').map(|(at, _)| full[..at].to_owned()).chain([full.clone()]).collect();
    keys.reverse();
    if host == "docker.io" {
        keys.extend([DOCKER_HUB.to_owned(), "index.docker.io".to_owned()]);
    }
    keys
}

/// Returns the entry with the first of the keys. Docker also wrote keys as URLs, in which only the host matters.
fn entry<'e, T>(entries: &'e BTreeMap<String, Option<T>>, keys: &[String]) -> Option<&'e T> {
    let host_of = |entry: &str| {
        let rest = entry.strip_prefix("https://").or_else(|| entry.strip_prefix("http://"))?;
        rest.split('/').next().map(ToOwned::to_owned)
    };
    // https:// sorts after http://, and takes precedence.
    let as_url = |key: &String| {
        entries.iter().rfind(|(entry, _)| host_of(entry).as_ref() == Some(key)).map(|(_, value)| value)
    };
    keys.iter().find_map(|key| entries.get(key).or_else(|| as_url(key)))?.as_ref()
}

/// Asks a credential helper.
fn ask(helper: &str, host: &str) -> Result<Option<Credentials>> {
    let failed = |why: String| Error::Credentials { host: host.into(), why };
    // The name is a part of a program's name, and the file may come from another tool.
    if helper.is_empty()
        || !helper.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    {
        return Err(failed(format!("{} is not the name of a credential helper", quoted(helper))));
    }
    answer(&mut Command::new(format!("docker-credential-{helper}")), host)
}

/// Runs a credential helper.
fn answer(helper: &mut Command, host: &str) -> Result<Option<Credentials>> {
    let failed = |why: String| Error::Credentials { host: host.into(), why };
    let program = helper.get_program().to_string_lossy().into_owned();
    let server = if host == "docker.io" { DOCKER_HUB } else { host };
    let mut run = || {
        let (input, mut writer) = io::pipe()?;
        // The pipe's buffer takes a host name at once.
        writer.write_all(server.as_bytes())?;
        drop(writer);
        process::captured(helper.arg("get").stdin(input).stderr(Stdio::null()))
    };
    let output = run().map_err(|error| failed(format!("cannot run {program}: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return match said.contains("credentials not found") {
            true => Ok(None),
            false => Err(failed(format!("{program} failed with {}", output.status))),
        };
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed(format!("{program} printed no user name and secret")))?;
    Ok(Some(match answer.username.as_str() {
        TOKEN_USER => Credentials::IdentityToken(answer.secret),
        _ => Credentials::Basic { user: answer.username, password: answer.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, host: &str, repository: &str) -> Result<Option<Credentials>> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auth.json");
        fs::write(&file, text).unwrap();
        CredentialFiles::only(&file).find(host, repository)
    }

    fn basic(user: &str) -> Credentials {
        Credentials::Basic { user: user.into(), password: "p:w".into() }
    }

    #[test]
    fn repositories_take_precedence_over_hosts() {
        let auth = |user: &str| BASE64.encode(format!("{user}:p:w").as_bytes());
        let text = format!(
            r#"{{"auths": {{"r.example": {{"auth": "{}"}}, "r.example/team": {{"auth": "{}"}}, "t.example:5000": {{"identitytoken": "t"}},
                "{DOCKER_HUB}": {{"auth": "{}"}}, "e.example": {{}}}}}}"#,
            auth("host"),
            auth("team"),
            auth("hub")
        );
        for (host, repository, expected) in [
            ("r.example", "app", Some(basic("host"))),
            ("r.example", "team/app", Some(basic("team"))),
            ("r.example", "teams/app", Some(basic("host"))),
            ("t.example:5000", "a", Some(Credentials::IdentityToken("t".into()))),
            ("docker.io", "library/a", Some(basic("hub"))),
            ("e.example", "a", None),
            ("o.example", "a", None),
        ] {
            assert_eq!(find(&text, host, repository).unwrap(), expected, "{host}/{repository}");
        }
    }

    #[test]
    fn files_that_docker_and_skopeo_read_are_read() {
        let auth = BASE64.encode(b"u:p:w");
        let entry = format!(r#"{{"auth": "{auth}"}}"#);
        for text in [
            format!(r#"{{"auths": {{"r.example:5000": {entry}, "other": null}}, "credHelpers": null}}"#),
            format!(r#"{{"auths": {{"https://r.example:5000": {entry}}}, "credsStore": ""}}"#),
            format!(r#"{{"auths": {{"https://r.example:5000/v2/": {entry}}}, "credsStore": null}}"#),
            format!(r#"{{"auths": {{"http://r.example:5000/v1/": {entry}, "https://r.example": {{}}}}}}"#),
        ] {
            assert_eq!(find(&text, "r.example:5000", "a").unwrap(), Some(basic("u")), "{text}");
            assert_eq!(find(&text, "r.example", "a").unwrap(), None, "{text}");
        }
        let both =
            format!(r#"{{"auths": {{"r.example": {entry}}}, "credHelpers": {{"r.example": "../x"}}}}"#);
        let error = find(&both, "r.example", "a").unwrap_err().to_string();
        assert!(error.contains("is not the name of a credential helper"), "the helper comes first: {error}");
        for text in [r#"{"auths": null}"#, r#"{"credsStore": ""}"#, r#"{"auths": {"r.example": null}}"#] {
            assert_eq!(find(text, "r.example", "a").unwrap(), None, "{text}");
        }
    }

    #[test]
    fn helpers_get_the_host_and_return_a_password_or_a_token() {
        let run = |script: &str| answer(Command::new("sh").args(["-c", script]), "docker.io");
        let script = r#"test "$0 $(cat)" = "get https://index.docker.io/v1/" && echo '{"Username":"USER","Secret":"p:w"}'"#;
        assert_eq!(run(&script.replace("USER", "u")).unwrap(), Some(basic("u")));
        let token = Credentials::IdentityToken("p:w".into());
        assert_eq!(run(&script.replace("USER", TOKEN_USER)).unwrap(), Some(token));
        assert_eq!(run("echo credentials not found in native keychain; exit 1").unwrap(), None);
        for script in ["echo PLANTED; exit 1", "echo PLANTED", "echo PLANTED >&2; exit 3"] {
            let error = run(script).unwrap_err().to_string();
            assert!(error.starts_with("cannot read the credentials for docker.io: sh "), "{error}");
            assert!(!error.contains("PLANTED"), "{error}");
        }
    }

    #[test]
    fn errors_contain_no_secret() {
        for text in [
            r#"{"auths": {"r.example": {"auth": "c2VjcmV0"}}}"#,
            r#"{"auths": {"r.example": {"auth": "not base64"}}}"#,
            r#"{"auths": {"r.example": "secret"}}"#,
            r#"{"credHelpers": {"r.example": "../secret"}, "auths": {}}"#,
        ] {
            let error = find(text, "r.example", "a").unwrap_err().to_string();
            assert!(error.starts_with("cannot read the credentials for r.example: "), "{error}");
            assert!(!error.contains("c2VjcmV0") && !error.contains("not base64"), "{error}");
        }
        let error =
            CredentialFiles::only(Path::new("/nonexistent/auth.json")).find("r.example", "a").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/auth.json"), "{error}");
    }
}
