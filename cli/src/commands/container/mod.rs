//! `nixply container`: containers of a project's development environment.
//!
//! ```text
//! args ──> skopeo::destination | engines ──> project ──────────> SpecFile ──> copy | engines | lock
//! action   can it be copied, or              Nix evaluates and   the spec     registry, docker or
//!          run, at all?                      builds it           and store    podman, or lock file
//! ```

mod args;
mod copy;
mod lock;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Error, Result};
use nixply_documents::wording;
use nixply_planning::plan::check_image_name;
use serde_json::json;

use self::args::{Action, ContainerArgs, Task};
use crate::arguments::{EnvironmentArgs, Evaluation};
use crate::documents::SpecFile;
use crate::engines::{self, Engine, Loaded};
use crate::failure::misused;
use crate::output::print;
use crate::process;
use crate::project::{Container, Project};

/// Name of this command in messages about the environment.
const COMMAND: &str = "nixply container";

/// Build, copy, or run a container of the project's devenv.nix
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    container: ContainerArgs,

    #[command(flatten)]
    evaluation: Evaluation,
}

/// Runs the command. `program` is the name that the user called nixply by.
pub(crate) fn run(args: Args, program: &str) -> Result<ExitCode> {
    let Args { container, evaluation } = args;
    process::forward_signals()?;
    let Action { name, task } = container.action(program)?;
    // Files are named after the container. Its name may have several words.
    for word in name.split(' ') {
        check_image_name(word)
            .map_err(|why| misused(format!("container name {}: {why}", wording::quoted(&name))))?;
    }
    let project = Project::find(&evaluation)?;
    match task {
        Task::Lock { forget } => lock::update(&project, &name, &forget, &evaluation)?,
        Task::Build => {
            let container = project.container(&name)?;
            let spec = project.build_spec(&name, &container)?;
            if evaluation.json {
                print_json(&name, &container, &spec)?;
            } else {
                print(format!("{}\n", spec.display()))?;
            }
        }
        Task::Copy { registry, arguments } => {
            copy::copy(&project, &name, registry.as_deref(), &arguments)?;
        }
        Task::Run { engine, copy_arguments, engine_arguments, arguments } => {
            let engine_options = &engines::split_options(&engine_arguments)?;
            let engine = Engine::choose(engine)?;
            let (copy_arguments, arguments) = (&*copy_arguments, &*arguments);
            let run = ContainerRun { engine, copy_arguments, engine_options, arguments };
            return Err(run.exec(&project, &name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How to run a container.
struct ContainerRun<'r> {
    engine: &'static Engine,
    /// Arguments for skopeo, not yet split.
    copy_arguments: &'r [String],
    /// Options of the engine, split.
    engine_options: &'r [String],
    /// Arguments of the container.
    arguments: &'r [OsString],
}

impl ContainerRun<'_> {
    /// Replaces this process by the container `name` of a project. Returns only on errors.
    fn exec(&self, project: &Project<'_>, name: &str) -> Error {
        let image = self.load(project, name);
        image.map_or_else(|error| error, |image| image.exec(self.engine_options, self.arguments))
    }

    /// Builds the container's image and loads it into the engine.
    fn load(&self, project: &Project<'_>, name: &str) -> Result<Loaded<'static>> {
        let container = project.container(name)?;
        let path = project.build_spec(name, &container)?;
        let settings = EnvironmentArgs::read(COMMAND)?;
        let file = SpecFile::read_content(&path, settings.store.store_of(&path))?;
        let script = || project.build_copy_script(name, &container);
        let quiet = project.evaluation.quiet;
        self.engine.load(&file, &container.reference, &settings, self.copy_arguments, script, quiet)
    }
}

fn print_json(name: &str, container: &Container, spec: &Path) -> Result<()> {
    let path = spec.display().to_string();
    let value = json!({ "container": name, "reference": container.reference, "spec": path });
    print(format!("{value}\n"))
}
