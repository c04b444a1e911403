//! `nixply init`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::failure::hinted;
use crate::output::{self, unwritten};
use crate::terminal::say;

/// Write a devenv.nix with a container to start from
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// What is written; NAME is the project's.
const FILE: &str = r#"{ pkgs, ... }:

{
  name = "NAME";

  # What is on PATH, in the shell and in containers.
  packages = [ pkgs.coreutils ];

  # What runs; `nixply container run processes` starts all of them.
  processes.hello.exec = "while true; do echo 'Hello from NAME'; sleep 1; done";

  # A container of one process: `nixply container run hello`. What it may see of the project is named here; without it, it is
  # all of the project.
  containers.hello = {
    copyToRoot = null;
    startupCommand = "echo 'Hello from NAME'";
  };
}
"#;

/// Writes a devenv.nix with a container, unless there is one.
pub(crate) fn run(args: &Args) -> Result<()> {
    // An ancestor that is no folder makes the others impossible.
    let not_folder = args.folder.ancestors().find(|path| path.symlink_metadata().is_ok() && !path.is_dir());
    if let Some(path) = not_folder {
        let error =
            anyhow!("cannot make the project {}: {} is not a folder", args.folder.display(), path.display());
        return Err(hinted(error, "name another folder"));
    }
    std::fs::create_dir_all(&args.folder).with_context(|| unwritten(args.folder.display()))?;
    let path = args.folder.join("devenv.nix");
    let text = FILE.replace("NAME", &project_name(&args.folder));
    if !output::create(&path, text.as_bytes())? {
        return Err(hinted(anyhow!("{} is there already", path.display()), "nothing was changed"));
    }
    let said = format!("wrote {}; `", path.display()).into_bytes();
    let said = [&said, &*command(&args.folder)?, b"` runs its container"].concat();
    say(String::from_utf8_lossy(&said));
    Ok(())
}

/// The command that runs the container, for the user's shell.
fn command(folder: &Path) -> Result<Vec<u8>> {
    const COMMAND: &[u8] = b"nixply container run hello";
    // Without links, `.` and the like there are many names of one folder.
    let real = |folder: &Path| folder.canonicalize();
    if real(folder).ok() == real(Path::new(".")).ok() {
        return Ok(COMMAND.to_vec());
    }
    let folder = folder.as_os_str().as_bytes();
    // Not an option, nor the folder that was left before.
    let dot: &[u8] = if folder.starts_with(b"-") { b"./" } else { b"" };
    let folder = [dot, folder].concat();
    let folder = shlex::bytes::try_quote(&folder).context("cannot print the folder's name")?;
    Ok([b"cd ", &*folder, b" && ", COMMAND].concat())
}

/// The folder's name as an image may be called.
fn project_name(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_default();
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-");
    if name.is_empty() { "myproject".into() } else { name }
}
