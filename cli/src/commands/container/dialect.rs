//! The spellings of `nixply container`, and what they mean. There are three: today's, in which each option belongs to a
//! subcommand; that of devenv 1, where they stand in front of it; and the oldest, with flags in place of subcommands.

use std::ffi::OsString;

use anyhow::Result;

use crate::failure::misused;
use crate::terminal::warning as warn;

/// Build, copy, or run a container of the project's devenv.nix
#[derive(clap::Args)]
#[command(
    arg_required_else_help = true,
    args_conflicts_with_subcommands = false,
    subcommand_negates_reqs = true
)]
pub(crate) struct Spelling {
    #[command(subcommand)]
    command: Option<Subcommand>,

    /// The container, in the oldest spelling
    #[arg(value_name = "NAME", hide = true)]
    name: Option<String>,

    #[command(flatten)]
    outer: CopyOptions,

    /// Copy it, in the oldest spelling
    #[arg(long, hide = true)]
    copy: bool,

    /// Run it, in the oldest spelling
    #[arg(long, hide = true, conflicts_with = "copy")]
    docker_run: bool,
}

#[derive(clap::Subcommand)]
enum Subcommand {
    /// Build a container and print its store path
    Build {
        /// The container
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Copy a container to a registry
    Copy {
        /// The container
        #[arg(value_name = "NAME")]
        name: String,

        #[command(flatten)]
        options: CopyOptions,
    },
    /// Update the lock file that a container names; make it where there is none
    Lock {
        /// The container; all others that name the same file are planned with it
        #[arg(value_name = "NAME")]
        name: String,

        /// Take a container out of the file, for good: one that is no more, or names another file. Can be given several times
        #[arg(long, value_name = "CONTAINER")]
        forget: Vec<String>,
    },
    /// Run a container with docker or podman
    Run {
        /// The container
        #[arg(value_name = "NAME")]
        name: String,

        #[command(flatten)]
        options: RunOptions,

        /// docker or podman [default: docker, or podman where docker does not answer]
        #[arg(long, value_name = "ENGINE")]
        engine: Option<Engine>,

        /// Options of docker run or podman run, as in -p 8000:8000; may be repeated, and is split as a shell splits words
        #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
        engine_args: Vec<String>,

        /// The program to run in place of the container's own command, with its arguments. One argument alone is shell code
        #[arg(last = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
}

#[derive(clap::Args, Clone, Default)]
struct CopyOptions {
    /// Where to copy it: what stands in front of its name, as in docker://ghcr.io/ [default: the container's `registry`]
    #[arg(short, long, value_name = "REGISTRY")]
    registry: Option<String>,

    /// Arguments of skopeo copy, in place of the container's `defaultCopyArgs`; may be repeated, and is split at spaces
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    copy_args: Vec<String>,
}

/// What copying takes, as far as it is of use to running.
#[derive(clap::Args)]
struct RunOptions {
    /// An image that is run goes nowhere else.
    #[arg(short, long, value_name = "REGISTRY", hide = true)]
    registry: Option<String>,

    /// Arguments of skopeo copy: the image is copied to the engine with them, as a whole; may be repeated, and is split at
    /// spaces
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    copy_args: Vec<String>,
}

impl From<RunOptions> for CopyOptions {
    fn from(RunOptions { registry, copy_args }: RunOptions) -> Self {
        Self { registry, copy_args }
    }
}

impl CopyOptions {
    /// With what stood in front of the subcommand.
    fn after(self, outer: Self) -> Self {
        let copy_args = [outer.copy_args, self.copy_args].concat();
        Self { registry: self.registry.or(outer.registry), copy_args }
    }
}

/// What runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// Docker.
    Docker,
    /// podman.
    Podman,
}

/// What is to be done, however it was said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The container's name.
    pub(crate) name: String,
    pub(crate) task: Task,
}

/// See [`Wanted`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Build it and print its path.
    Build,
    /// Copy it.
    Copy {
        /// What stands in front of the image's name, if not the container's own.
        registry: Option<String>,
        /// Arguments of skopeo, unsplit; none are the container's own.
        arguments: Vec<String>,
    },
    /// Update its lock file.
    Lock {
        /// Containers to take out of it.
        forget: Vec<String>,
    },
    /// Run it.
    Run {
        /// What with, if somebody said.
        engine: Option<Engine>,
        /// Arguments of skopeo, unsplit.
        copy_arguments: Vec<String>,
        /// Options of the engine, unsplit.
        engine_arguments: Vec<String>,
        /// What the container is given.
        arguments: Vec<OsString>,
    },
}

impl Spelling {
    /// What it means. Says what is deprecated about it; `program` is how the user called this one.
    pub(crate) fn understand(self, program: &str) -> Result<Wanted> {
        let Self { command, name, outer, copy, docker_run } = self;
        let (name, task) = match (command, name) {
            (Some(command), name) => {
                if let Some(name) = name {
                    return Err(misused(format!(
                        "{name}: which container is meant stands behind the subcommand"
                    )));
                }
                if copy || docker_run {
                    return Err(misused(
                        "--copy and --docker-run stand in place of a subcommand: leave them out",
                    ));
                }
                match command {
                    Subcommand::Build { name } => (name, Task::Build),
                    Subcommand::Copy { name, options } => (name, copy_task(options.after(outer))),
                    Subcommand::Lock { name, forget } => {
                        if outer.registry.is_some() || !outer.copy_args.is_empty() {
                            warn("Ignoring --registry and --copy-args when updating a lock file");
                        }
                        (name, Task::Lock { forget })
                    }
                    Subcommand::Run { name, options, engine, engine_args, arguments } => {
                        let mut task = run_task(CopyOptions::from(options).after(outer));
                        if let Task::Run { engine: with, engine_arguments, arguments: given, .. } = &mut task
                        {
                            (*with, *engine_arguments, *given) = (engine, engine_args, arguments);
                        }
                        (name, task)
                    }
                }
            }
            (None, Some(name)) if docker_run => {
                warn(format!("The --docker-run flag is deprecated. Use `{program} container run` instead."));
                (name, run_task(outer))
            }
            (None, Some(name)) if copy => {
                warn(format!("The --copy flag is deprecated. Use `{program} container copy` instead."));
                (name, copy_task(outer))
            }
            (None, Some(name)) => {
                warn(format!(
                    "Calling `{program} container` without a subcommand is deprecated. Use `{program} container build {name}` \
                     instead."
                ));
                (name, Task::Build)
            }
            (None, None) => {
                return Err(misused(format!(
                    "No container subcommand provided. Use `{program} container build` or specify a command."
                )));
            }
        };
        Ok(Wanted { name, task })
    }
}

fn copy_task(CopyOptions { registry, copy_args }: CopyOptions) -> Task {
    Task::Copy { registry, arguments: copy_args }
}

/// With nothing said of the engine.
fn run_task(options: CopyOptions) -> Task {
    if options.registry.is_some() {
        warn("Ignoring --registry flag when running container");
    }
    let (engine, engine_arguments, arguments) = (None, Vec::new(), Vec::new());
    Task::Run { engine, copy_arguments: options.copy_args, engine_arguments, arguments }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(name = "container")]
    struct Command {
        #[command(flatten)]
        spelling: Spelling,
    }

    fn understood(line: &str) -> Result<Wanted> {
        let arguments = std::iter::once("container").chain(line.split(' ').filter(|word| !word.is_empty()));
        Command::try_parse_from(arguments)?.spelling.understand("nixply")
    }

    fn copy(registry: Option<&str>, arguments: &[&str]) -> Task {
        Task::Copy {
            registry: registry.map(str::to_owned),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        }
    }

    fn run(engine: Option<Engine>, copy_arguments: &[&str], arguments: &[&str]) -> Task {
        Task::Run {
            engine,
            copy_arguments: copy_arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            engine_arguments: Vec::new(),
            arguments: arguments.iter().map(OsString::from).collect(),
        }
    }

    /// Rows C1, C3, C4, C5 and C7 of all three spellings.
    #[test]
    fn all_spellings_are_understood() {
        let registry = Some("docker://r/");
        for (line, name, task) in [
            ("build shell", "shell", Task::Build),
            ("shell", "shell", Task::Build),
            // A container that is called as a subcommand.
            ("build build", "build", Task::Build),
            ("copy processes", "processes", copy(None, &[])),
            ("copy processes --registry docker://r/", "processes", copy(registry, &[])),
            ("copy -r docker://r/ processes", "processes", copy(registry, &[])),
            ("--registry docker://r/ copy processes", "processes", copy(registry, &[])),
            ("-r docker://other/ copy processes -r docker://r/", "processes", copy(registry, &[])),
            (
                "--registry=docker://r/ --copy-args=-a copy p --copy-args -b",
                "p",
                copy(registry, &["-a", "-b"]),
            ),
            ("p --copy --registry docker://r/", "p", copy(registry, &[])),
            ("p --copy --registry=docker://r/ --copy-args=--x", "p", copy(registry, &["--x"])),
            ("--registry docker://r/ p --copy", "p", copy(registry, &[])),
            ("lock shell", "shell", Task::Lock { forget: Vec::new() }),
            ("lock shell --forget old", "shell", Task::Lock { forget: vec!["old".into()] }),
            ("run shell", "shell", run(None, &[], &[])),
            ("shell --docker-run", "shell", run(None, &[], &[])),
            ("run shell --engine podman -- a -b", "shell", run(Some(Engine::Podman), &[], &["a", "-b"])),
            ("run shell --copy-args --x", "shell", run(None, &["--x"], &[])),
            ("--copy-args --x --registry r run shell", "shell", run(None, &["--x"], &[])),
        ] {
            let wanted = understood(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(wanted, Wanted { name: name.to_owned(), task }, "{line}");
        }
    }

    /// Row C9, and what can mean two things.
    #[test]
    fn what_is_not_understood_is_said() {
        for (line, message) in [
            ("--registry docker://r/", "No container subcommand provided. Use `nixply container build`"),
            ("--copy build shell", "--copy and --docker-run stand in place of a subcommand"),
            ("--docker-run --copy shell", "cannot be used with"),
            ("build", "<NAME>"),
            ("run shell --engine lxc", "[possible values: docker, podman]"),
            ("shell build", "<NAME>"),
            ("shell build x", "shell: which container is meant stands behind the subcommand"),
        ] {
            let error = understood(line).unwrap_err().to_string();
            assert!(error.contains(message), "{line}: {error}");
        }
    }
}
