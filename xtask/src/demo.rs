//! The demo: the way from a Nix expression to a running container, with real programs.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use xtask::host::{self, output, say};
use xtask::packages::Resolve::WhenMissing;
use xtask::services::{Registry, unmount_below};
use xtask::store::Store;
use xtask::{nix, packages, release};

/// Options of the chore.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// 2.8, 2.26, or the path of an installed Nix with headers
    #[arg(long, default_value = "2.8")]
    nix: nix::Version,
}

/// Times the demo's steps.
struct Steps {
    begin: Instant,
    took: Vec<(&'static str, f64)>,
}

impl Steps {
    fn done(&mut self, step: &'static str) {
        self.took.push((step, self.begin.elapsed().as_secs_f64()));
        self.begin = Instant::now();
    }
}

/// Runs the demo.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = Steps { begin: Instant::now(), took: Vec::new() };
    host::apt_install(&["skopeo", "podman", "runc", "docker-registry"])?;
    let nix = nix::install(&args.nix)?;
    let lock = packages::set_up(WhenMissing)?;
    let store = Store::open(&nix, &lock)?;
    steps.done("set-up");
    let built = release::build(&nix)?;
    let plugin = built.plugin.with_context(|| format!("Nix {} cannot load plugins", nix.version))?;
    steps.done("cargo build --release");

    let directory = tempfile::tempdir()?;
    let result = directory.path().join("result");
    let example = host::root().join("examples/images/python/default.nix");
    let pkgs = format!(
        "import {} {{ lock = builtins.fromJSON (builtins.readFile {}); }}",
        host::root().join("tests/packages").display(),
        packages::Lock::path().display()
    );
    let config = format!("plugin-files = {}\n", plugin.display());
    let mut command = store.command("nix", &config);
    command.args(["build", "--impure", "--expr"]);
    command.arg(format!("import {} {{ pkgs = {pkgs}; }}", example.display()));
    // Build the dependencies first, so that the next step shows the time of nixply alone.
    let mut closure = store.command("nix-build", "");
    closure.args(["--no-out-link", "-E", &format!("({pkgs}).python3")]);
    output(&mut closure)?;
    steps.done("python3 as store paths");
    say(format!("nix build, with the plugin loaded, of {}", example.display()));
    host::run(command.arg("--out-link").arg(&result))?;
    steps.done("nix build packs the image");
    host::run(Command::new(&built.cli).arg("inspect").arg(&result))?;

    let layout = directory.path().join("layout");
    let mut write = Command::new(&built.cli);
    write.args(["layout", "--compression", "zstd", "--tag", "demo"]).arg(&result).arg(&layout);
    say(format!("manifest pushed: {}", output(&mut write)?.trim()));
    steps.done("OCI layout, zstd");
    let registry = Registry::start()?;
    let reference = format!("{}/python-demo:demo", registry.address);
    let mut push = Command::new("skopeo");
    push.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
    push.arg(format!("oci:{}:demo", layout.display())).arg(format!("docker://{reference}"));
    output(&mut push)?;
    steps.done("push to the registry");
    say(format!("podman pulls and runs {reference}; output of the program:"));
    let podman = Podman(directory.path());
    output(podman.command("pull").args(["--quiet", "--tls-verify=false", &reference]))?;
    steps.done("pull from the registry");
    host::run(podman.run().arg(&reference))?;
    steps.done("run");
    drop(podman);

    say("done; seconds:");
    for (step, seconds) in steps.took {
        say(format!("  {seconds:7.2}  {step}"));
    }
    Ok(())
}

/// podman with its storage in a temporary directory.
struct Podman<'f>(&'f Path);

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        unmount_below(self.0);
        // The files belong to root.
        let files = ["containers", "run"].map(|name| self.0.join(name));
        let _ = output(host::as_root("rm").arg("-rf").args(files));
    }
}

impl Podman<'_> {
    fn command(&self, verb: &str) -> Command {
        let mut command = host::as_root("podman");
        command.arg("--root").arg(self.0.join("containers")).arg("--runroot").arg(self.0.join("run"));
        // Debian's crun needs systemd, which may be missing.
        command.args([
            "--cgroup-manager",
            "cgroupfs",
            "--runtime",
            "/usr/sbin/runc",
            "--events-backend",
            "file",
        ]);
        command.arg(verb);
        command
    }

    fn run(&self) -> Command {
        let mut command = self.command("run");
        command.args([
            "--rm",
            "--network",
            "none",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ]);
        command
    }
}
