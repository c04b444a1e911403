//! `nixply init`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow};

use crate::failure::hinted;
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
    std::fs::create_dir_all(&args.folder)
        .with_context(|| format!("cannot make {}", args.folder.display()))?;
    let path = args.folder.join("devenv.nix");
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            hinted(anyhow!("{} is there already", path.display()), "nothing was changed")
        } else {
            Error::from(error).context(format!("cannot write {}", path.display()))
        }
    })?;
    let text = FILE.replace("NAME", &project_name(&args.folder));
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    say(format!("wrote {}; `nixply container run hello` runs its container", path.display()));
    Ok(())
}

/// The folder's name as an image may be called.
fn project_name(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_default();
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-");
    if name.is_empty() { "myproject".into() } else { name }
}
