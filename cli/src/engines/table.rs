//! The container engines. An engine is one row of [`ENGINES`]; everything else, including help texts, follows from the row.

/// Properties of a container engine.
#[derive(Debug)]
pub(crate) struct Engine {
    /// The program.
    pub(crate) name: &'static str,
    /// Environment variable with the daemon's address.
    pub(super) host_variable: &'static str,
    /// Subcommand that fails if the daemon does not answer.
    pub(super) probe: &'static str,
    /// Whether the engine works without a daemon on its own machine. Then only remote daemons are probed.
    pub(super) daemonless: bool,
    /// Parts of the error message if no daemon is running.
    pub(super) down: &'static [&'static str],
    /// Hint for a user that the daemon refuses.
    pub(super) refused_hint: &'static str,
    /// Options of `pull` for a registry without TLS on loopback.
    pub(super) pull_options: &'static [&'static str],
    /// How the engine learns a registry's credentials.
    pub(super) credentials: Credentials,
    /// Options of `image inspect` that print the ID of an image. `None` if `pull --quiet` prints it.
    pub(super) inspect_id: Option<&'static [&'static str]>,
    /// Arguments that remove a name from an image and keep its layers.
    pub(super) untag: for<'a> fn(&'a str) -> Vec<&'a str>,
    /// Prefix of skopeo's destination for an image of this name.
    pub(super) skopeo_prefix: fn(&str) -> &'static str,
}

/// How an engine learns a registry's credentials.
#[derive(Debug)]
pub(super) enum Credentials {
    /// From config.json in a directory that DOCKER_CONFIG names.
    DockerConfig,
    /// From a file that this variable names (containers-auth.json(5)).
    AuthFile(&'static str),
}

/// All engines, the preferred one first.
pub(crate) static ENGINES: [Engine; 2] = [
    Engine {
        name: "docker",
        host_variable: "DOCKER_HOST",
        probe: "version",
        daemonless: false,
        down: &["Cannot connect to the Docker daemon", "Is the docker daemon running"],
        refused_hint: "add your user to the group docker and log in again",
        // Docker accepts registries without TLS on loopback.
        pull_options: &[],
        credentials: Credentials::DockerConfig,
        inspect_id: Some(&["--format", "{{.Id}}"]),
        untag: |name| vec!["rmi", "--no-prune", name],
        skopeo_prefix: |_| "docker-daemon:",
    },
    Engine {
        name: "podman",
        host_variable: "CONTAINER_HOST",
        probe: "info",
        daemonless: cfg!(not(target_os = "macos")),
        down: &["Cannot connect to Podman"],
        refused_hint: "check with `podman info` whether you may use podman",
        pull_options: &["--tls-verify=false"],
        credentials: Credentials::AuthFile("REGISTRY_AUTH_FILE"),
        // `podman image inspect` also looks for the image's parent, and fails on an image that another process is storing.
        inspect_id: None,
        untag: |name| vec!["untag", name, name],
        // For a name without a registry, podman first looks on localhost.
        skopeo_prefix: |name| {
            if has_registry(name) { "containers-storage:" } else { "containers-storage:localhost/" }
        },
    },
];

/// Whether an image's name starts with the host of a registry.
fn has_registry(reference: &str) -> bool {
    let first = reference.split_once('/').map(|(first, _)| first);
    first.is_some_and(|first| first.contains(['.', ':']) || first == "localhost")
}
