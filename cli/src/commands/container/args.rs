//! The arguments of `nixply container`. There are three syntaxes: the current one, in which each option follows its subcommand;
//! devenv 1's, in which options precede the subcommand; and devenv's oldest, with flags instead of subcommands.

use std::ffi::OsString;

use anyhow::Result;

use crate::engines::{self, Engine};
use crate::failure::misused;
use crate::terminal::warning as warn;

/// Build, copy, or run a container of the project's devenv.nix
#[derive(clap::Args)]
#[command(
    arg_required_else_help = true,
    args_conflicts_with_subcommands = false,
    subcommand_negates_reqs = true
)]
pub(crate) struct ContainerArgs {
    #[command(subcommand)]
    command: Option<Subcommand>,

    /// Name of the container, in the oldest syntax
    #[arg(value_name = "NAME", hide = true)]
    name: Option<String>,

    #[command(flatten)]
    outer: CopyOptions,

    /// Copy the container, in the oldest syntax
    #[arg(long, hide = true)]
    copy: bool,

    /// Run the container, in the oldest syntax
    #[arg(long, hide = true, conflicts_with = "copy")]
    docker_run: bool,
}

#[derive(clap::Subcommand)]
enum Subcommand {
    /// Build a container and print its store path
    Build {
        /// Name of the container
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Copy a container to a registry
    Copy {
        /// Name of the container
        #[arg(value_name = "NAME")]
        name: String,

        #[command(flatten)]
        options: CopyOptions,
    },
    /// Update the lock file of a container, or create it
    Lock {
        /// Name of the container; all containers with the same lock file are planned together
        #[arg(value_name = "NAME")]
        name: String,

        /// Remove a container from the file permanently: one that was deleted or uses another file. Can be repeated
        #[arg(long, value_name = "CONTAINER")]
        forget: Vec<String>,
    },
    #[command(about = engines::about_run())]
    Run {
        /// Name of the container
        #[arg(value_name = "NAME")]
        name: String,

        #[command(flatten)]
        options: RunOptions,

        #[arg(long, value_name = "ENGINE", help = engines::help(), value_parser = engines::parser())]
        engine: Option<&'static Engine>,

        #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true, help = engines::help_arguments())]
        engine_args: Vec<String>,

        /// Program and arguments to run instead of the container's own command. A single argument is shell code
        #[arg(last = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
}

#[derive(clap::Args, Clone, Default)]
struct CopyOptions {
    /// Destination: the prefix of the image's name, as in docker://ghcr.io/me/ [default: the container's `registry`]
    #[arg(short, long, value_name = "REGISTRY")]
    registry: Option<String>,

    /// Arguments for skopeo copy, split at spaces (overrides the container's `defaultCopyArgs`). Can be repeated. Without
    /// arguments, skopeo is not needed for registries
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    copy_args: Vec<String>,
}

/// The options of copying that also apply to running.
#[derive(clap::Args)]
struct RunOptions {
    /// Ignored with a warning.
    #[arg(short, long, value_name = "REGISTRY", hide = true)]
    registry: Option<String>,

    /// Copy the whole image to the engine with skopeo copy and these arguments, split at spaces. Can be repeated
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    copy_args: Vec<String>,
}

impl From<RunOptions> for CopyOptions {
    fn from(RunOptions { registry, copy_args }: RunOptions) -> Self {
        Self { registry, copy_args }
    }
}

impl CopyOptions {
    /// Adds the options that preceded the subcommand.
    fn after(self, outer: Self) -> Self {
        let copy_args = [outer.copy_args, self.copy_args].concat();
        Self { registry: self.registry.or(outer.registry), copy_args }
    }
}

/// The requested action, in any of the syntaxes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Action {
    /// Name of the container.
    pub(crate) name: String,
    pub(crate) task: Task,
}

/// The action on the container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Build it and print the path of its spec.
    Build,
    /// Copy it.
    Copy {
        /// Prefix of the image's name, if not the container's own.
        registry: Option<String>,
        /// Arguments for skopeo, not yet split. If empty, the container's own are used.
        arguments: Vec<String>,
    },
    /// Update its lock file.
    Lock {
        /// Containers to remove from it.
        forget: Vec<String>,
    },
    /// Run it.
    Run {
        /// The engine that the user chose.
        engine: Option<&'static Engine>,
        /// Arguments for skopeo, not yet split.
        copy_arguments: Vec<String>,
        /// Options of the engine, not yet split.
        engine_arguments: Vec<String>,
        /// Arguments of the container.
        arguments: Vec<OsString>,
    },
}

impl ContainerArgs {
    /// Returns the requested action. Warns about deprecated syntax; `program` is the name that the user called nixply by.
    pub(crate) fn action(self, program: &str) -> Result<Action> {
        let Self { command, name, outer, copy, docker_run } = self;
        let (name, task) = match (command, name) {
            (Some(command), name) => {
                if let Some(name) = name {
                    return Err(misused(format!(
                        "{name}: put the container's name after the subcommand, as in `{program} container build {name}`"
                    )));
                }
                if copy || docker_run {
                    return Err(misused(
                        "--copy and --docker-run cannot be used with a subcommand: omit them",
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
        Ok(Action { name, task })
    }
}

fn copy_task(CopyOptions { registry, copy_args }: CopyOptions) -> Task {
    Task::Copy { registry, arguments: copy_args }
}

/// Returns the task of running a container with the default engine.
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
        args: ContainerArgs,
    }

    fn action(line: &str) -> Result<Action> {
        let arguments = std::iter::once("container").chain(line.split(' ').filter(|word| !word.is_empty()));
        Command::try_parse_from(arguments)?.args.action("nixply")
    }

    fn copy(registry: Option<&str>, arguments: &[&str]) -> Task {
        Task::Copy {
            registry: registry.map(str::to_owned),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        }
    }

    fn run(engine: Option<&'static Engine>, copy_arguments: &[&str], arguments: &[&str]) -> Task {
        Task::Run {
            engine,
            copy_arguments: copy_arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            engine_arguments: Vec::new(),
            arguments: arguments.iter().map(OsString::from).collect(),
        }
    }

    #[test]
    fn all_three_syntaxes_parse() {
        let registry = Some("docker://r/");
        for (line, name, task) in [
            ("build shell", "shell", Task::Build),
            ("shell", "shell", Task::Build),
            // A container with the name of a subcommand.
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
            ("run shell --engine podman -- a -b", "shell", run(engines::named("podman"), &[], &["a", "-b"])),
            ("run shell --copy-args --x", "shell", run(None, &["--x"], &[])),
            ("--copy-args --x --registry r run shell", "shell", run(None, &["--x"], &[])),
        ] {
            let action = action(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(action, Action { name: name.to_owned(), task }, "{line}");
        }
    }

    /// Includes command lines with two possible meanings.
    #[test]
    fn invalid_arguments_are_usage_errors() {
        for (line, message) in [
            ("--registry docker://r/", "No container subcommand provided. Use `nixply container build`"),
            ("--copy build shell", "--copy and --docker-run cannot be used with a subcommand"),
            ("--docker-run --copy shell", "cannot be used with"),
            ("build", "<NAME>"),
            ("run shell --engine lxc", "[possible values: docker, podman"),
            ("shell build", "<NAME>"),
            ("shell build x", "shell: put the container's name after the subcommand"),
        ] {
            let error = action(line).unwrap_err().to_string();
            assert!(error.contains(message), "{line}: {error}");
        }
    }
}
