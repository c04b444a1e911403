//! Checks before packing whether skopeo can copy a container to its destination.

use std::env;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use nixply_documents::wording;
use nixply_oci::reference;

use crate::failure::hinted;
use crate::nix;
use crate::terminal::warning;

/// The transports that skopeo copies to.
const TRANSPORTS: [&str; 8] = [
    "containers-storage",
    "dir",
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "ostree",
];

/// Default address of the Docker daemon in skopeo.
const DAEMON: &str = "unix:///var/run/docker.sock";

/// skopeo's option for another address.
const DAEMON_OPTION: &str = "--dest-daemon-host";

/// Time that a daemon on another machine has to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks the transport of a registry, which is the prefix of the image's name. It comes from the command line, or from the
/// definition of `container`.
pub(crate) fn check_transport(registry: &str, container: Option<&str>) -> Result<()> {
    let Some(Fault { what, instead }) = Fault::of(registry) else { return Ok(()) };
    let place = container.map(|name| format!("containers.{}.registry", nix::name(name)));
    let error = match &place {
        Some(place) => anyhow!("{place}: {registry:?} {what}"),
        None => anyhow!("{registry:?} {what}"),
    };
    let hint = match (instead, place) {
        (Some(instead), Some(place)) => format!("set {place} = {};", nix::string(&instead)),
        (Some(instead), None) => format!("did you mean {instead}?"),
        (None, _) => format!("use one of {}, as in docker://ghcr.io/me/", TRANSPORTS.join(", ")),
    };
    Err(hinted(error, hint))
}

/// A mistake in a registry.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    what: String,
    /// The destination that the user probably means.
    instead: Option<String>,
}

impl Fault {
    fn of(registry: &str) -> Option<Self> {
        let none = |instead| Some(Self { what: "has no transport".into(), instead: Some(instead) });
        let Some((transport, rest)) = registry.split_once(':') else {
            return none(match registry {
                "" => "docker://REGISTRY/".into(),
                directory if directory.starts_with(['/', '.']) && !directory.starts_with("//") => {
                    format!("oci:{directory}")
                }
                "docker" => "docker://REGISTRY/".into(),
                transport if TRANSPORTS.contains(&transport) => format!("{transport}:"),
                registry => of_registry(registry),
            });
        };
        let (first, _) = rest.split_once('/').unwrap_or((rest, ""));
        if TRANSPORTS.contains(&transport) {
            let misses = transport == "docker" && !rest.starts_with("//");
            return misses.then(|| Self {
                what: "lacks the slashes of docker://".into(),
                instead: Some(of_registry(rest)),
            });
        }
        if ["http", "https"].contains(&transport) {
            return none(of_registry(rest));
        }
        // A registry without a transport, as in HOST:PORT/NAME.
        let is_port = !first.is_empty() && first.chars().all(|c| c.is_ascii_digit());
        if transport.contains(['.', '/', '[']) || is_port {
            return none(of_registry(registry));
        }
        let nearest = match transport {
            "podman" | "storage" => Some("containers-storage"),
            _ => wording::nearest(transport, TRANSPORTS),
        };
        let what = format!("has a transport that skopeo cannot copy to, {transport}");
        Some(Self { what, instead: nearest.map(|nearest| format!("{nearest}:{rest}")) })
    }
}

/// Adds the transport to a registry, and the slash that separates it from the image's name.
fn of_registry(registry: &str) -> String {
    format!("docker://{}/", registry.trim_matches('/'))
}

/// Checks the whole image name: the container's registry followed by the image's name, as in `docker://ghcr.io/me/` and
/// `web:latest`.
pub(crate) fn check_name(registry: &str, reference: &str) -> Result<()> {
    let Some(registry) = registry.strip_prefix("docker://") else { return Ok(()) };
    // devenv concatenates them without a separator.
    let whole = format!("{registry}{reference}");
    let (name, tag) = match whole.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (&*whole, None),
    };
    let fault = match reference::check_name(name) {
        Ok(()) => tag.map_or(Ok(()), reference::check_tag).err(),
        fault => fault.err(),
    };
    let hint = match registry.is_empty() || registry.ends_with('/') {
        true => "set --registry or containers.NAME.registry to the prefix of the image's name, as in docker://ghcr.io/me/".into(),
        false => format!("end the registry with a slash: docker://{registry}/"),
    };
    fault.map_or(Ok(()), |fault| Err(hinted(fault, hint)))
}

/// Warns about a registry without a slash, as the copy script does: the image's name then belongs to the host.
pub(crate) fn warn_without_slash(registry: &str) {
    let host = registry.strip_prefix("docker://").unwrap_or_default();
    if host.contains(['.', ':']) && !host.contains('/') {
        warning(format!(
            "registry {registry} does not end with a slash; the image's name is appended directly"
        ));
    }
}

/// Checks that the Docker daemon answers if `registry` copies to it. `arguments` are skopeo's, not yet split.
pub(crate) fn check_daemon(registry: &str, arguments: &[String]) -> Result<()> {
    if !registry.starts_with("docker-daemon:") {
        return Ok(());
    }
    let mut words = arguments.iter().flat_map(|arguments| arguments.split_whitespace());
    let named = words.find_map(|word| match word.strip_prefix(DAEMON_OPTION)? {
        "" => Some(None),
        value => value.strip_prefix('=').map(Some),
    });
    let named = match named {
        Some(None) => words.next(),
        Some(named) => named,
        None => None,
    };
    // The value of shell code is not known yet.
    if named.is_some_and(|named| named.contains(['$', '`', '"', '\''])) {
        return Ok(());
    }
    let variable = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let host = named.map(str::to_owned).or(variable).unwrap_or_else(|| DAEMON.into());
    let reached = if let Some(socket) = host.strip_prefix("unix://") {
        UnixStream::connect(socket).map(drop)
    } else if let Some(address) = host.strip_prefix("tcp://") {
        connect(address.trim_end_matches('/'))
    } else if named.is_some() {
        // skopeo reports unsupported addresses itself.
        return Ok(());
    } else {
        let error =
            anyhow!("DOCKER_HOST is {host}, but skopeo can only copy to a Docker daemon at unix: or tcp:");
        let hint = "load the image with `nixply container run`, or copy to a registry with --registry docker://REGISTRY/";
        return Err(hinted(error, hint));
    };
    reached.map_err(|error| unreachable_daemon(&host, error))
}

/// Resolves an address and connects to the first resolved address that accepts a connection.
fn connect(address: &str) -> io::Result<()> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn unreachable_daemon(host: &str, error: io::Error) -> Error {
    if error.kind() == ErrorKind::PermissionDenied {
        let error = Error::from(error).context(format!("cannot use the Docker daemon at {host}"));
        let hint = "add your user to the group docker and log in again, or copy to podman with --registry containers-storage:";
        return hinted(error, hint);
    }
    let error = match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            anyhow!("no Docker daemon is running at {host}")
        }
        _ => Error::from(error).context(format!("the Docker daemon at {host} does not answer")),
    };
    let hint = "start Docker, or set DOCKER_HOST to its address; copy to a registry with --registry docker://REGISTRY/, or to \
                podman with --registry containers-storage:";
    hinted(error, hint)
}

/// Error for a container without a registry.
pub(crate) fn none_declared(container: &str) -> Error {
    let place = format!("containers.{}", nix::name(container));
    hinted(anyhow!("{place} has no registry"), format!("set {place}.registry, or pass --registry"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_transports_get_a_suggestion() {
        for (registry, instead) in [
            ("HOST/me/", "docker://HOST/me/"),
            ("ghcr.io/me/", "docker://ghcr.io/me/"),
            ("ghcr.io/me", "docker://ghcr.io/me/"),
            ("//ghcr.io/me/", "docker://ghcr.io/me/"),
            ("ghcr.io", "docker://ghcr.io/"),
            ("localhost:5000/me/", "docker://localhost:5000/me/"),
            ("localhost:5000", "docker://localhost:5000/"),
            ("127.0.0.1:5000/", "docker://127.0.0.1:5000/"),
            ("[::1]:5000/", "docker://[::1]:5000/"),
            ("ghcr.io:443/me/", "docker://ghcr.io:443/me/"),
            ("https://ghcr.io/me/", "docker://ghcr.io/me/"),
            ("http://localhost:5000/me/", "docker://localhost:5000/me/"),
            ("", "docker://REGISTRY/"),
            ("docker", "docker://REGISTRY/"),
            ("docker-daemon", "docker-daemon:"),
            ("./images/", "oci:./images/"),
            ("/srv/images/", "oci:/srv/images/"),
        ] {
            let fault = Fault::of(registry).unwrap_or_else(|| panic!("{registry}"));
            let expected = Fault { what: "has no transport".into(), instead: Some(instead.into()) };
            // The suggestion is valid.
            assert_eq!((&fault, Fault::of(instead)), (&expected, None), "{registry}");
        }
    }

    #[test]
    fn unknown_transports_get_the_nearest_suggestion() {
        for (registry, instead) in [
            ("dokcer://ghcr.io/me/", Some("docker://ghcr.io/me/")),
            ("Docker://ghcr.io/me/", Some("docker://ghcr.io/me/")),
            ("DOCKER://ghcr.io/me/", Some("docker://ghcr.io/me/")),
            ("docker-demon:", Some("docker-daemon:")),
            ("podman:", Some("containers-storage:")),
            ("s3:bucket/", None),
            ("nix:", None),
        ] {
            let fault = Fault::of(registry).unwrap_or_else(|| panic!("{registry}"));
            assert_eq!(fault.instead.as_deref(), instead, "{registry}");
            assert!(fault.what.starts_with("has a transport that skopeo cannot copy to, "), "{fault:?}");
        }
        let fault = Fault::of("docker:ghcr.io/me/").unwrap();
        assert_eq!(fault.instead.as_deref(), Some("docker://ghcr.io/me/"));
    }

    #[test]
    fn skopeo_transports_are_accepted() {
        for registry in [
            "docker://",
            "docker://ghcr.io/me/",
            "docker://ghcr.io",
            "docker-daemon:",
            "containers-storage:",
            "containers-storage:[overlay@/a+/b]",
            "oci:/srv/images/",
            "oci:images/",
            "oci-archive:",
            "docker-archive:/a.tar:",
            "dir:/a",
            "ostree:",
        ] {
            assert_eq!(Fault::of(registry), None, "{registry}");
        }
    }

    /// skopeo would refuse these names only after packing.
    #[test]
    fn invalid_image_names_are_errors() {
        for (registry, reference) in [
            ("docker://", "web:latest"),
            ("docker://ghcr.io/me/", "web:latest"),
            ("docker://ghcr.io/me/my-", "web:1"),
            ("docker://localhost:5000/", "web"),
            ("docker://[::1]:5000/a/", "web:1"),
            ("oci:/srv/A B/", "web:latest"),
        ] {
            check_name(registry, reference).unwrap();
        }
        for (registry, reference, part) in [
            ("docker://ghcr.io/Me/", "web:latest", "image name \"ghcr.io/Me/web\" is not valid"),
            ("docker://ghcr.io//me/", "web:latest", "image name \"ghcr.io//me/web\""),
            ("docker://ghcr.io/a b/", "web:latest", "image name \"ghcr.io/a b/web\""),
            ("docker://ghcr.io/me:1/", "web:latest", "image name \"ghcr.io/me:1/web\""),
            ("docker://ghcr.io/me/", "web:.a", "tag \".a\" is not valid"),
        ] {
            let error = check_name(registry, reference).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn errors_name_the_option_of_the_container() {
        let error = check_transport("ghcr.io/me/", Some("my web")).unwrap_err();
        assert_eq!(error.to_string(), "containers.\"my web\".registry: \"ghcr.io/me/\" has no transport");
        assert_eq!(
            check_transport("HOST/me/", None).unwrap_err().to_string(),
            "\"HOST/me/\" has no transport"
        );
    }

    #[test]
    fn the_named_docker_daemon_is_checked() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let host = format!("unix://{}", socket.display());
        let checked = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|words| (*words).to_owned()).collect();
            check_daemon("docker-daemon:", &arguments).map_err(|error| error.to_string())
        };
        let missing = Err(format!("no Docker daemon is running at {host}"));
        let option = format!("{DAEMON_OPTION}={host}");
        assert_eq!(checked(&[&option]), missing);
        assert_eq!(checked(&["--format=v2s2 --dest-daemon-host", &host]), missing);
        // A socket file without a listener.
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert_eq!(checked(&[&option]), missing);
        std::fs::remove_file(&socket).unwrap();
        let _daemon = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(checked(&[&option]), Ok(()));
        // Shell code, and other destinations.
        assert_eq!(checked(&["--dest-daemon-host=unix://$(nowhere)"]), Ok(()));
        assert!(check_daemon("docker://nowhere/", &[]).is_ok());
    }
}
