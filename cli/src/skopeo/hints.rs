//! Hints for skopeo's error messages.

/// Parts of skopeo's messages, in lower case, and the hint for each group. The first match counts.
const HINTS: [(&[&str], &str); 8] = [
    (
        &["http response to https client"],
        "pass --copy-args=--dest-tls-verify=false for a registry without TLS",
    ),
    (
        &["x509:", "tls: ", "certificate"],
        "pass a directory with the registry's ca.crt: --copy-args=\"--dest-cert-dir DIR\"",
    ),
    (
        &["docker.sock: connect: permission denied", "to the docker daemon socket"],
        "add your user to the group docker and log in again, or copy elsewhere with --registry",
    ),
    (
        &["cannot connect to the docker daemon", "is the docker daemon running"],
        "start Docker, or set DOCKER_HOST to its address",
    ),
    (
        &[
            "unauthorized",
            "authentication required",
            "requested access to the resource is denied",
            "denied: requested",
            "denied: permission",
            "no basic auth credentials",
            "incorrect username or password",
            "invalid username/password",
            "401 (",
            "403 (",
            "status code 401",
            "status code 403",
            "401 unauthorized",
            "403 forbidden",
        ],
        "log in with `skopeo login REGISTRY`, or pass a file with credentials: --copy-args=\"--dest-authfile FILE\"",
    ),
    (
        &["no such host", "name resolution", "server misbehaving"],
        "check the spelling of the registry's name, and the network connection",
    ),
    (
        &[
            "connection refused",
            "no route to host",
            "network is unreachable",
            "i/o timeout",
            "deadline exceeded",
        ],
        "check the registry's address and port, and whether it is running",
    ),
    (
        &["invalid reference format", "must be lowercase"],
        "end --registry with a slash, as in docker://ghcr.io/me/: the image's name is appended to it",
    ),
];

/// Returns the hint for skopeo's messages, if one matches.
pub(super) fn for_skopeo(messages: &str) -> Option<&'static str> {
    let messages = messages.to_lowercase();
    let found = HINTS.iter().find(|(parts, _)| parts.iter().any(|part| messages.contains(part)));
    found.map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of skopeo 1.9 and later.
    #[test]
    fn hints_match_their_errors() {
        let logged = |message: &str| format!("time=\"2026-11-28T21:00:00Z\" level=fatal msg=\"{message}\"");
        for (message, part) in [
            (
                "trying to reuse blob sha256:ab at destination: checking whether a blob sha256:ab exists in 127.0.0.1:5000/a: \
                 authentication required",
                Some("skopeo login"),
            ),
            (
                "Error parsing image name: denied: requested access to the resource is denied",
                Some("--dest-authfile"),
            ),
            ("uploading manifest latest to ghcr.io/a: unauthorized", Some("skopeo login")),
            ("initiating layer upload: StatusCode: 403, <html>403 Forbidden</html>", Some("skopeo login")),
            (
                "pinging container registry 127.0.0.1:5000: Get \\\"https://127.0.0.1:5000/v2/\\\": http: server gave HTTP response \
                 to HTTPS client",
                Some("--dest-tls-verify=false"),
            ),
            (
                "pinging container registry r: Get \\\"https://r/v2/\\\": x509: certificate signed by unknown authority",
                Some("--dest-cert-dir"),
            ),
            (
                "pinging container registry r.invalid: Get \\\"https://r.invalid/v2/\\\": dial tcp: lookup r.invalid: no such host",
                Some("the spelling of the registry's name"),
            ),
            (
                "pinging container registry 127.0.0.1:1: Get \\\"https://127.0.0.1:1/v2/\\\": dial tcp 127.0.0.1:1: connect: \
                 connection refused",
                Some("address and port"),
            ),
            (
                "Error loading image from docker engine: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the \
                 docker daemon running?",
                Some("start Docker"),
            ),
            (
                "Error loading image from docker engine: Got permission denied while trying to connect to the Docker daemon socket \
                 at unix:///var/run/docker.sock: dial unix /var/run/docker.sock: connect: permission denied",
                Some("group docker"),
            ),
            ("Invalid destination name docker://ghcr.ioa:b:c: invalid reference format", Some("a slash")),
            // Messages that are not about credentials.
            ("writing blob: io: read/write on closed pipe", None),
            ("creating temp file: no space left on device", None),
            ("open /srv/images/index.json: permission denied", None),
            ("mkdir /srv/images: permission denied: check its owner", None),
            ("unknown flag: --dest-cred", None),
        ] {
            let said = for_skopeo(&logged(message));
            assert_eq!(said.is_some(), part.is_some(), "{message}: {said:?}");
            assert!(part.is_none_or(|part| said.unwrap().contains(part)), "{message}: {said:?}");
        }
        assert_eq!(for_skopeo(""), None);
    }
}
