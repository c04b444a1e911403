//! Lock files of containers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use nixply_packer::closure::Store;
use nixply_packer::document;
use nixply_packer::request::FleetRequest;
use serde_json::{Value, json};

use super::Evaluation;
use super::project::Project;
use crate::commands::{closure_of, inputs, lock_file, print, store_dir_of};
use crate::failure::hinted;
use crate::nix;
use crate::terminal::say;

/// Updates the lock file that a container names, or makes it. All containers that name it are planned as one; those to `forget` are
/// in it no more.
pub(super) fn update(
    project: &Project<'_>,
    name: &str,
    forget: &[String],
    evaluation: &Evaluation,
) -> Result<()> {
    let lock = project.lock_file(name)?;
    let Some(file) = &lock.file else {
        let error = anyhow!("container {name:?} names no lock file");
        let way_out =
            format!("containers.{}.lock = ./nixply.lock.json; in its devenv.nix names one", nix::name(name));
        return Err(hinted(error, way_out));
    };
    let requests = project.build_lock_requests(&lock)?;
    // They lie in the store that they are about.
    let store = Store::at(
        requests.values().next().map_or_else(|| "/nix/store".into(), |request| store_dir_of(request)),
    );
    ensure!(
        !file.starts_with(&store.dir),
        "the lock file of container {name:?} would be {}, where it cannot be written: name a file of the project",
        file.display()
    );
    let read = |(name, file): (String, PathBuf)| -> Result<(String, Value)> {
        let mut request: Value = document::parse(&inputs::read_text(&file)?, &file.display().to_string())?;
        // The file knows it by the container's name, which need not be one of an image.
        request.as_object_mut().and_then(|request| request.remove("name"));
        Ok((name, request))
    };
    let requests: BTreeMap<String, Value> = requests.into_iter().map(read).collect::<Result<_>>()?;
    let mut fleet = FleetRequest::from_json(&json!(requests).to_string(), "containers")?;
    let closure = closure_of(None, fleet.images().values_mut().collect(), &store)?;

    let mut former = lock_file::former(file)?;
    let shown = file.display().to_string();
    lock_file::forget(former.as_mut().map(|former| &mut former.lock), file, forget, "container")?;
    let new = fleet.updated_lock(former.as_ref().map(|former| &former.lock), &closure, &store);
    let new = new.with_context(|| shown.clone())?.write();
    let news = match &former {
        None => "is new",
        Some(former) if former.text == new => "stays as it was",
        Some(_) => "has changed",
    };
    lock_file::write(file, &new)?;
    if !evaluation.quiet {
        let names: Vec<&str> = requests.keys().map(String::as_str).collect();
        say(format!("{shown} {news}: {}", names.join(", ")));
    }
    if evaluation.json {
        print(format!("{}\n", json!({ "container": name, "lock": shown })))?;
    }
    Ok(())
}
