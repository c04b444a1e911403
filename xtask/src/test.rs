//! Runs all tests of the workspace, and sets up everything that the whole-system tests need.

use std::process::Stdio;

use anyhow::{Result, bail};
use xtask::host::{self, cargo, say};
use xtask::nix::Version;
use xtask::packages::Resolve::WhenMissing;
use xtask::services::{Docker, Registry};
use xtask::store::Store;
use xtask::{nix, packages, release};

/// Debian packages whose programs the tests run.
const PROGRAMS: &[&str] = &[
    "skopeo",
    "umoci",
    "podman",
    "runc",
    "docker.io",
    "docker-registry",
    "tar",
    "jq",
    "zstd",
    "strace",
    "qemu-user",
    "openssl",
    "apache2-utils",
];

/// Options of the chore.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// 2.8, 2.26, all (both), or sid (not in CI: its version changes, and it cannot load plugins)
    #[arg(long, default_value = "all", conflicts_with = "nix_prefix")]
    nix: String,

    /// Prefix of an installed Nix with headers
    #[arg(long, value_name = "DIR")]
    nix_prefix: Option<std::path::PathBuf>,

    /// Run only the whole-system tests, not those of the crates
    #[arg(long)]
    system_only: bool,

    /// Arguments for the test programs, such as a test's name
    #[arg(last = true)]
    filter: Vec<String>,
}

/// Runs the tests.
pub(crate) fn run(args: &Args) -> Result<()> {
    let versions = match (&args.nix_prefix, args.nix.as_str()) {
        (Some(prefix), _) => vec![Version::Prefix(prefix.clone())],
        (None, "all") => vec![Version::Bookworm, Version::Trixie],
        (None, one) => vec![one.parse()?],
    };
    host::apt_install(PROGRAMS)?;
    let lock = packages::set_up(WhenMissing)?;
    check_filter(args)?;
    if !args.system_only {
        say("tests of the crates");
        host::run(
            cargo()
                .args(["test", "--workspace", "--exclude", "nixply-tests", "--locked", "--"])
                .args(&args.filter),
        )?;
    }
    let mut installed = Vec::new();
    for version in versions {
        let nix = nix::install(&version)?;
        let (store, built) = (Store::open(&nix, &lock)?, release::build(&nix)?);
        installed.push((nix, store, built));
    }
    let registry = Registry::start()?;
    let docker = Docker::start()?;
    let mut failed = Vec::new();
    for (nix, store, built) in &installed {
        say(format!("whole-system tests with Nix {}", nix.version));
        let mut command = cargo();
        command.args(["test", "-p", "nixply-tests", "--locked", "--no-fail-fast", "--"]).args(&args.filter);
        command.env("NIXPLY_TEST_REQUIRED", "1");
        command.env("NIXPLY_TEST_NIX", &nix.name).env("NIXPLY_TEST_NIX_BIN", &nix.bin);
        command.env("NIXPLY_TEST_NIX_ROOT", &store.root).env("NIXPLY_TEST_CLI", &built.cli);
        command.env("NIXPLY_TEST_PACKAGES", packages::Lock::path());
        command.env("NIXPLY_TEST_REGISTRY", &registry.address).env("NIXPLY_TEST_DOCKER", &docker.host);
        if let Some(plugin) = &built.plugin {
            command.env("NIXPLY_TEST_PLUGIN", plugin);
        }
        // A plugin for another Nix, which this Nix must decline. Empty if no such plugin was built.
        command.env("NIXPLY_TEST_OTHER_PLUGIN", release::other_plugin(nix)?.unwrap_or_default());
        if let Err(error) = host::run(&mut command) {
            say(format!("{error:#}"));
            failed.push(nix.version.clone());
        }
    }
    if !failed.is_empty() {
        bail!("tests failed with Nix {}", failed.join(" and "));
    }
    Ok(())
}

/// Fails if no test has a name that the filter matches. Test programs report success then.
fn check_filter(args: &Args) -> Result<()> {
    if args.filter.is_empty() {
        return Ok(());
    }
    let mut command = cargo();
    command.args(["test", "--locked"]);
    command.args(if args.system_only { ["-p", "nixply-tests"].as_slice() } else { &["--workspace"] });
    command.arg("--").args(&args.filter).args(["--list", "--format", "terse"]);
    let listed = host::output(command.stderr(Stdio::inherit()))?;
    if !listed.lines().any(|line| line.ends_with(": test")) {
        bail!("no test matches {}; cargo xtask test -- --list lists all tests", args.filter.join(" "));
    }
    Ok(())
}
