//! The real skopeo: where it is, and running it so that nobody notices who did.

use std::ffi::OsString;
use std::fs::{self, Metadata, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::{env, io, process};

use anyhow::{Context, Error, Result, anyhow, bail};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::low_level::emulate_default_handler;

use super::MESSAGES;
use crate::failure::hinted;
use crate::interrupt::ignored;
use crate::terminal;

/// The real one, whatever PATH has.
const VARIABLE: &str = "NIXPLY_SKOPEO";

/// The process that became what was taken for the real skopeo.
const CALLER: &str = "NIXPLY_SKOPEO_CALLER";

/// What is passed on to skopeo when it comes to this process.
const PASSED: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// The real skopeo.
pub(super) struct Skopeo(PathBuf);

impl Skopeo {
    /// The one that the environment names, else the first on PATH that is not this program.
    pub(super) fn find() -> Result<Self> {
        let own = own().context("cannot find this program's own file")?;
        let is_own = |file: &Metadata| (file.dev(), file.ino()) == (own.dev(), own.ino());
        let with_way_out = |error: Error| hinted(error, format!("install skopeo, or name it in {VARIABLE}"));
        if env::var_os(CALLER).is_some_and(|caller| caller == *process::id().to_string()) {
            return Err(with_way_out(anyhow!("the skopeo that was found runs nixply again, and so on")));
        }
        if let Some(given) = env::var_os(VARIABLE).filter(|given| !given.is_empty()) {
            let path = PathBuf::from(given);
            if fs::metadata(&path).is_ok_and(|file| is_own(&file)) {
                bail!("{VARIABLE} names nixply itself, {}, in place of the real skopeo", path.display());
            }
            return Ok(Self(path));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let is_real = |file: &PathBuf| {
            let runs = |file: &Metadata| file.is_file() && file.permissions().mode() & 0o111 != 0;
            fs::metadata(file).is_ok_and(|file| runs(&file) && !is_own(&file))
        };
        // Without a slash in it, a path would be looked for again.
        let mut files = env::split_paths(&path).map(|folder| Path::new(".").join(folder).join("skopeo"));
        files.find(is_real).map(Self).ok_or_else(|| {
            with_way_out(anyhow!("there is no skopeo on PATH but nixply's, which needs the real one"))
        })
    }

    /// Becomes the real skopeo. Gives why it did not.
    pub(super) fn replace_this(&self, arguments: &[OsString]) -> Error {
        let error = Command::new(&self.0).args(arguments).env(CALLER, process::id().to_string()).exec();
        self.failed(error)
    }

    /// Runs it to its end, with this process' standard streams and in its process group. `relayed`, its messages come by way
    /// of this process, which has bars on the screen; likewise where a file is named that is to have them, too.
    pub(super) fn run(&self, arguments: &[OsString], mut signals: Signals, relayed: bool) -> Result<Ended> {
        let mut command = Command::new(&self.0);
        let kept = env::var_os(MESSAGES).and_then(|file| OpenOptions::new().append(true).open(file).ok());
        if relayed || kept.is_some() {
            command.stderr(Stdio::piped());
        }
        let mut child = command.args(arguments).spawn().map_err(|error| self.failed(error))?;
        let messages = child.stderr.take().map(|stream| terminal::relay(stream, kept)).transpose();
        if messages.is_err() {
            // Nobody would read its messages, and it would wait for that.
            let _ = child.kill();
        }
        let status =
            signals.wait(&mut child).with_context(|| format!("cannot wait for {}", self.0.display()))?;
        // A panic of it has been printed.
        messages?.into_iter().for_each(|messages| drop(messages.join()));
        Ok(Ended(status))
    }

    fn failed(&self, error: io::Error) -> Error {
        let what = format!("cannot start the real skopeo, {}", self.0.display());
        hinted(Error::from(error).context(what), format!("install skopeo, or name it in {VARIABLE}"))
    }
}

/// This program's file, under whatever name it was started.
fn own() -> io::Result<Metadata> {
    fs::metadata("/proc/self/exe").or_else(|_| fs::metadata(env::current_exe()?))
}

/// Signals are caught from when there is one of these: nothing that was made for skopeo stays behind.
pub(super) struct Signals(signal_hook::iterator::Signals);

impl Signals {
    pub(super) fn catch() -> Result<Self> {
        let ignored = ignored();
        // One that is ignored (nohup, a shell's background job) must be so for skopeo, too; caught, it would be no longer.
        let caught = PASSED.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0).chain([SIGCHLD]);
        let signals = signal_hook::iterator::Signals::new(caught).context("cannot listen for signals")?;
        Ok(Self(signals))
    }

    /// Passes signals on until the process ends.
    fn wait(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        loop {
            // Its number is nobody else's until this has seen it end.
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            for signal in self.0.wait().filter(|signal| *signal != SIGCHLD) {
                if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
                    // It may have ended.
                    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), signal);
                }
            }
        }
    }
}

/// How skopeo ended.
pub(super) struct Ended(ExitStatus);

impl Ended {
    /// Whether it did what it was told to.
    pub(super) fn is_fine(&self) -> bool {
        self.0.success()
    }

    /// Its exit code. If a signal has ended it, that ends this process.
    pub(super) fn pass_on(&self) -> ExitCode {
        if let Some(signal) = self.0.signal() {
            // Of a signal that has no name, shells make such a code.
            let _ = emulate_default_handler(signal);
            return ExitCode::from(128_u8.wrapping_add(u8::try_from(signal).unwrap_or(0)));
        }
        ExitCode::from(self.0.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}
