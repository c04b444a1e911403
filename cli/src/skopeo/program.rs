//! The real skopeo: finding it and running it.

use std::ffi::OsString;
use std::fs::{self, Metadata, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::{env, io};

use anyhow::{Context, Error, Result, anyhow, bail};

use super::MESSAGES;
use crate::failure::hinted;
use crate::process::{self, Passthrough};
use crate::terminal;

/// Environment variable that names the real skopeo.
const VARIABLE: &str = "NIXPLY_SKOPEO";

/// Environment variable with the process number of a nixply that has replaced itself by skopeo. If this process has that number,
/// the supposed skopeo was nixply again.
const CALLER: &str = "NIXPLY_SKOPEO_CALLER";

/// The real skopeo.
pub(crate) struct Skopeo(PathBuf);

impl Skopeo {
    /// Finds the skopeo that the environment names, or the first on PATH that is not this program.
    pub(crate) fn find() -> Result<Self> {
        let own = own_file().context("cannot find this program's own file")?;
        let is_own = |file: &Path| {
            fs::metadata(file).is_ok_and(|file| (file.dev(), file.ino()) == (own.dev(), own.ino()))
        };
        if env::var_os(CALLER).is_some_and(|caller| caller == *std::process::id().to_string()) {
            let error = anyhow!("the skopeo on PATH calls nixply again (endless recursion)");
            return Err(hinted(error, install_hint()));
        }
        if let Some(given) = env::var_os(VARIABLE).filter(|given| !given.is_empty()) {
            let path = PathBuf::from(given);
            if is_own(&path) {
                bail!("{VARIABLE} must name the real skopeo, but {} is nixply itself", path.display());
            }
            return Ok(Self(path));
        }
        let found = which::which_all("skopeo").ok().and_then(|mut files| files.find(|file| !is_own(file)));
        // Join with `.`: a name without a slash (from an empty entry of PATH) would be looked up on PATH again.
        found.map(|file| Self(Path::new(".").join(file))).ok_or_else(|| {
            let error = anyhow!("cannot find the real skopeo: PATH has none, or only nixply under that name");
            hinted(error, install_hint())
        })
    }

    /// Replaces this process by skopeo. Returns only on errors.
    pub(crate) fn exec(&self, arguments: &[OsString]) -> Error {
        let mut command = Command::new(&self.0);
        command.args(arguments).env(CALLER, std::process::id().to_string());
        self.failed(process::become_program(&mut command))
    }

    /// Runs skopeo with this process's standard streams and in its process group. If this process shows progress bars (`relayed`), or
    /// if a caller wants a copy of skopeo's messages, they go through this process.
    pub(crate) fn run(
        &self,
        arguments: &[OsString],
        signals: Passthrough,
        relayed: bool,
    ) -> Result<ExitStatus> {
        let mut command = Command::new(&self.0);
        command.args(arguments);
        let copy = env::var_os(MESSAGES).and_then(|file| OpenOptions::new().append(true).open(file).ok());
        if relayed || copy.is_some() {
            command.stderr(Stdio::piped());
        }
        let skopeo = signals.start(command).map_err(|error| self.failed(error))?;
        skopeo.wait(|messages| terminal::relay(messages, copy))
    }

    fn failed(&self, error: io::Error) -> Error {
        let what = format!("cannot start the real skopeo, {}", self.0.display());
        hinted(Error::from(error).context(what), install_hint())
    }
}

fn install_hint() -> String {
    format!("install skopeo, or set {VARIABLE} to its path")
}

/// Returns the metadata of this program's file, under any name.
fn own_file() -> io::Result<Metadata> {
    fs::metadata("/proc/self/exe").or_else(|_| fs::metadata(env::current_exe()?))
}
