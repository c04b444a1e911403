//! Servers on the loopback interface: a registry and a Docker daemon. Dropping a value stops its server.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::host::{self, output};

/// Maximum time until a server is ready.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A process. Dropping the value stops it.
struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    fn start(command: &mut Command, log: PathBuf) -> Result<Self> {
        let file = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {}", host::shown(command)))?;
        Ok(Self { child, log })
    }

    /// Waits until `ready`; fails with the server's log if it stops first.
    fn wait_until(&mut self, what: &str, ready: impl Fn() -> bool) -> Result<()> {
        let begin = Instant::now();
        while !ready() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || begin.elapsed() > STALL_TIMEOUT {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!("{what} did not start; end of its log:\n{}", tail.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // On SIGTERM, a daemon stops its containers; SIGKILL would leave them running.
        let _ = output(host::as_root("kill").arg(self.child.id().to_string()));
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian's docker-registry on a free port, with its files in a temporary directory.
pub struct Registry {
    server: Server,
    files: TempDir,
    /// `127.0.0.1:PORT`.
    pub address: String,
}

impl Registry {
    /// Starts a registry.
    pub fn start() -> Result<Self> {
        Self::start_in(&std::env::temp_dir())
    }

    /// Starts a registry whose temporary directory is in this directory.
    pub fn start_in(directory: &Path) -> Result<Self> {
        let files = tempfile::Builder::new().prefix("registry-").tempdir_in(directory)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let config = files.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}, delete: {{enabled: true}}}}\n\
             http: {{addr: {address}}}\n",
            files.path().display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        let mut server = Server::start(command.arg("serve").arg(&config), files.path().join("log"))?;
        server.wait_until("the registry", || TcpStream::connect(&address).is_ok())?;
        Ok(Self { server, files, address })
    }

    /// Returns its process ID.
    pub fn pid(&self) -> u32 {
        self.server.child.id()
    }

    /// Returns its log, with one line per request.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(self.files.path().join("log")).context("cannot read the registry's log")
    }

    /// Returns the file of a blob.
    pub fn blob(&self, sha256: &str) -> PathBuf {
        let blobs = self.files.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&sha256[..2]).join(sha256).join("data")
    }
}

/// A Docker daemon with its state in a temporary directory and without a network.
pub struct Docker {
    _server: Server,
    files: TempDir,
    /// Value of `DOCKER_HOST`.
    pub host: String,
}

impl Docker {
    /// Starts a daemon.
    pub fn start() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let path = |name: &str| files.path().join(name);
        let socket = path("docker.sock");
        let host = format!("unix://{}", socket.display());
        let mut command = host::as_root("dockerd");
        command.args(["--bridge=none", "--iptables=false", "--log-level=warn", "-H", &host]);
        command
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("-p")
            .arg(path("pid"));
        let mut server = Server::start(&mut command, path("log"))?;
        let answers = || output(Command::new("docker").args(["-H", &host, "version"])).is_ok();
        server.wait_until("the Docker daemon", answers)?;
        Ok(Self { _server: server, files, host })
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Remaining mounts of containers would prevent the removal. The files belong to root.
        unmount_below(self.files.path());
        let files = ["data", "exec"].map(|name| self.files.path().join(name));
        let _ = output(host::as_root("rm").arg("-rf").args(files));
    }
}

/// Unmounts all file systems below a directory, the innermost first.
pub fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|mount| Path::new(mount).starts_with(directory));
    let mut below: Vec<&str> = below.collect();
    below.sort_by_key(|mount| std::cmp::Reverse(mount.len()));
    for mount in below {
        let _ = output(host::as_root("umount").args(["-l", mount]));
    }
}

/// Returns a free port.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
