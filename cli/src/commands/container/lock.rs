//! Lock files of containers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use nixply_documents::document;
use nixply_packer::FleetRequest;
use nixply_planning::Store;
use serde_json::{Value, json};

use crate::arguments::{Evaluation, closure_of, store_dir_of};
use crate::documents::{self, lock_file};
use crate::failure::hinted;
use crate::nix;
use crate::output::print;
use crate::project::Project;
use crate::terminal::say;

/// Updates the lock file of a container, or creates it. All containers with this lock file are planned together. Containers in
/// `forget` are removed from it.
pub(super) fn update(
    project: &Project<'_>,
    name: &str,
    forget: &[String],
    evaluation: &Evaluation,
) -> Result<()> {
    let lock = project.lock_file(name)?;
    let Some(file) = &lock.file else {
        let error = anyhow!("container {name:?} has no lock file");
        let hint =
            format!("set one in devenv.nix: containers.{}.lock = ./nixply.lock.json;", nix::name(name));
        return Err(hinted(error, hint));
    };
    let requests = project.build_lock_requests(&lock)?;
    // The requests are in the same store as their store paths.
    let store = Store::at(
        requests.values().next().map_or_else(|| "/nix/store".into(), |request| store_dir_of(request)),
    );
    ensure!(
        !file.starts_with(&store.dir),
        "the lock file of container {name:?} is {}, which cannot be written: set it to a file of the project",
        file.display()
    );
    let read = |(name, file): (String, PathBuf)| -> Result<(String, Value)> {
        let mut request: Value = document::parse(&documents::read_text(&file)?, &file.display().to_string())?;
        // The lock file uses the container's name, which may differ from the image's.
        request.as_object_mut().and_then(|request| request.remove("name"));
        Ok((name, request))
    };
    let requests: BTreeMap<String, Value> = requests.into_iter().map(read).collect::<Result<_>>()?;
    let mut fleet = FleetRequest::from_json(&json!(requests).to_string(), "containers")?;
    let closure = closure_of(None, fleet.images().values_mut().collect(), &store)?;

    let mut previous = lock_file::previous(file)?;
    let shown = file.display().to_string();
    lock_file::forget(previous.as_mut().map(|previous| &mut previous.lock), file, forget, "container")?;
    let new = fleet.updated_lock(previous.as_ref().map(|previous| &previous.lock), &closure, &store);
    let new = new.with_context(|| shown.clone())?.write();
    let result = match &previous {
        None => "was created",
        Some(previous) if previous.text == new => "is unchanged",
        Some(_) => "was updated",
    };
    lock_file::write(file, &new)?;
    if !evaluation.quiet {
        let names: Vec<&str> = requests.keys().map(String::as_str).collect();
        say(format!("{shown} {result}: {}", names.join(", ")));
    }
    if evaluation.json {
        print(format!("{}\n", json!({ "container": name, "lock": shown })))?;
    }
    Ok(())
}
