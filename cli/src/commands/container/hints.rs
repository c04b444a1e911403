//! Ways out of what skopeo says when it has failed.

/// Signs in skopeo's message, in lower case, and the way out. The first that is found counts.
const WAYS_OUT: [(&[&str], &str); 8] = [
    (
        &["http response to https client"],
        "the registry is one without TLS, for which --copy-args=--dest-tls-verify=false is needed",
    ),
    (
        &["x509:", "tls: ", "certificate"],
        "name the registry's certificates: --copy-args=\"--dest-cert-dir FOLDER\", a folder with its ca.crt",
    ),
    (
        &["docker.sock: connect: permission denied", "to the docker daemon socket"],
        "add your user to the group docker and log in again, or copy elsewhere with --registry",
    ),
    (
        &["cannot connect to the docker daemon", "is the docker daemon running"],
        "start Docker, or set DOCKER_HOST to where it is",
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
        "log in with `skopeo login REGISTRY`, which asks for the password, or name a file with credentials: \
         --copy-args=\"--dest-authfile FILE\"",
    ),
    (
        &["no such host", "name resolution", "server misbehaving"],
        "check how the registry's name is spelt, and whether this machine reaches the network",
    ),
    (
        &[
            "connection refused",
            "no route to host",
            "network is unreachable",
            "i/o timeout",
            "deadline exceeded",
        ],
        "check the registry's address and port, and whether it runs",
    ),
    (
        &["invalid reference format", "must be lowercase"],
        "--registry stands in front of the image's name as it is: end it with a slash, as in docker://ghcr.io/me/",
    ),
];

/// The way out of skopeo's message, if there is one that fits.
pub(super) fn of_skopeo(said: &str) -> Option<&'static str> {
    let said = said.to_lowercase();
    let found = WAYS_OUT.iter().find(|(signs, _)| signs.iter().any(|sign| said.contains(sign)));
    found.map(|(_, way_out)| *way_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What skopeo 1.9 and later say, and what each is about.
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
                Some("how the registry's name is spelt"),
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
            // Nothing of these is about credentials.
            ("writing blob: io: read/write on closed pipe", None),
            ("creating temp file: no space left on device", None),
            ("open /srv/images/index.json: permission denied", None),
            ("mkdir /srv/images: permission denied: check its owner", None),
            ("unknown flag: --dest-cred", None),
        ] {
            let said = of_skopeo(&logged(message));
            assert_eq!(said.is_some(), part.is_some(), "{message}: {said:?}");
            assert!(part.is_none_or(|part| said.unwrap().contains(part)), "{message}: {said:?}");
        }
        assert_eq!(of_skopeo(""), None);
    }
}
