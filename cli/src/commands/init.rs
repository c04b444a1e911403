//! `nixply init`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::failure::hinted;
use crate::output::{self, unwritten};
use crate::terminal::say;

/// Create a devenv.nix with an example container
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory of the project
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

/// The file, with NAME for the name of the project.
const FILE: &str = r#"{ pkgs, ... }:

{
  name = "NAME";

  # Packages on PATH, in the shell and in containers.
  packages = [ pkgs.coreutils ];

  # Processes; `nixply container run processes` starts all of them.
  processes.hello.exec = "while true; do echo 'Hello from NAME'; sleep 1; done";

  # A container with one process: `nixply container run hello`. copyToRoot lists the project's files in the container; by default
  # the container has all of them.
  containers.hello = {
    copyToRoot = null;
    startupCommand = "echo 'Hello from NAME'";
  };
}
"#;

/// Creates a devenv.nix with a container. Never overwrites an existing one.
pub(crate) fn run(args: &Args) -> Result<()> {
    // An ancestor that is not a directory.
    let not_directory =
        args.directory.ancestors().find(|path| path.symlink_metadata().is_ok() && !path.is_dir());
    if let Some(path) = not_directory {
        let error = anyhow!(
            "cannot create the project {}: {} is not a directory",
            args.directory.display(),
            path.display()
        );
        return Err(hinted(error, "pass another directory"));
    }
    std::fs::create_dir_all(&args.directory).with_context(|| unwritten(args.directory.display()))?;
    let path = args.directory.join("devenv.nix");
    let text = FILE.replace("NAME", &project_name(&args.directory));
    if !output::create(&path, text.as_bytes())? {
        return Err(hinted(
            anyhow!("{} already exists", path.display()),
            "edit it, or pass another directory; nothing was changed",
        ));
    }
    let said = format!("created {}; run its container with `", path.display()).into_bytes();
    let said = [&said, &*command(&args.directory)?, b"`"].concat();
    say(String::from_utf8_lossy(&said));
    Ok(())
}

/// Returns the command that runs the container, for the user's shell.
fn command(directory: &Path) -> Result<Vec<u8>> {
    const COMMAND: &[u8] = b"nixply container run hello";
    // Compare without links and `.`: a directory has many names.
    let real = |directory: &Path| directory.canonicalize();
    if real(directory).ok() == real(Path::new(".")).ok() {
        return Ok(COMMAND.to_vec());
    }
    let directory = directory.as_os_str().as_bytes();
    // So that cd does not parse it as an option or as the previous directory.
    let dot: &[u8] = if directory.starts_with(b"-") { b"./" } else { b"" };
    let directory = [dot, directory].concat();
    let directory = shlex::bytes::try_quote(&directory).context("cannot print the directory's name")?;
    Ok([b"cd ", &*directory, b" && ", COMMAND].concat())
}

/// Returns the directory's name as a valid image name.
fn project_name(directory: &Path) -> String {
    let directory = directory.canonicalize().unwrap_or_default();
    let name = directory.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-");
    if name.is_empty() { "myproject".into() } else { name }
}
