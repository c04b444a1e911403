//! Copies a container: to a registry with the registry client, and to any other destination, or with arguments for skopeo, with
//! skopeo.

use std::error::Error as StdError;
use std::path::Path;

use anyhow::{Context, Error, Result};
use nixply_packer::{Cache, Codec};
use nixply_registry::Error as RegistryError;
use nixply_registry::client::Reference;

use super::{COMMAND, print_json};
use crate::arguments::{EnvironmentArgs, RegistryArgs};
use crate::certificates::CertificateFiles;
use crate::documents::{Content, LayerFiles, SpecFile};
use crate::failure::hinted;
use crate::project::Project;
use crate::pushing::{self, Pushing};
use crate::skopeo::{self, destination};
use crate::terminal::say;
use crate::transfer::Watch;
use crate::{diagnosis, temporary};

/// Codec that skopeo uses for registries.
const CODEC: &str = "gzip";

/// devenv's words about a container that cannot be copied.
const FAILED: &str = "Failed to copy container";

/// Copies a container. Checks the destination as early as possible: before Nix evaluates, or at least before it builds.
pub(super) fn copy(
    project: &Project<'_>,
    name: &str,
    registry: Option<&str>,
    arguments: &[String],
) -> Result<()> {
    let evaluation = project.evaluation;
    // devenv's "false" means the container's own registry.
    let given = registry.filter(|registry| *registry != skopeo::OWN_REGISTRY);
    if let Some(registry) = given {
        destination::check_transport(registry, None)?;
        destination::check_daemon(registry, arguments)?;
    }
    let container = project.container(name)?;
    match given {
        None => container.check_destination(name, arguments)?,
        Some(registry) => destination::check_name(registry, &container.reference)?,
    }
    let prefix = container.registry(given);
    let to = match container.needs_copy_script() || !arguments.is_empty() {
        true => None,
        false => tag(prefix, &container.reference)?,
    };
    let spec = project.build_spec(name, &container)?;
    remember_archives(&spec);
    match to {
        Some(to) => {
            destination::warn_without_slash(prefix);
            push(&spec, &format!("{prefix}{}", container.reference), &to, evaluation.quiet)?;
        }
        None => {
            let script = project.build_copy_script(name, &container)?;
            skopeo::copy(&script, &spec, registry, arguments, evaluation.quiet)?;
        }
    }
    if evaluation.json {
        print_json(name, &container, &spec)?;
    }
    Ok(())
}

/// Returns the tag that the registry client writes, or `None` if skopeo copies: the destination is not a registry, or one with rules
/// that only skopeo applies.
fn tag(prefix: &str, reference: &str) -> Result<Option<Reference>> {
    let Some(prefix) = prefix.strip_prefix("docker://") else { return Ok(None) };
    let to = Reference::on_docker_hub_by_default(&format!("{prefix}{reference}")).map_err(explain)?;
    Ok((!skopeo::has_rules_for(&to.repository)).then_some(to))
}

/// Pushes an image with the registry client. Registries on loopback speak HTTP, unless they say that they expect TLS.
fn push(spec: &Path, destination: &str, to: &Reference, quiet: bool) -> Result<()> {
    let settings = EnvironmentArgs::read(COMMAND)?;
    // Layer files may be anywhere: the same user names the spec and reads the files.
    let file = SpecFile::read_content_to_pack(spec, settings.store.store_of(spec), LayerFiles::Anywhere)?;
    if !quiet {
        let heading = format!("Copying container {} to {destination}", spec.display());
        ["", &heading, ""].iter().for_each(say);
    }
    let pushing = Pushing {
        store: &settings.store,
        cache: &settings.cache,
        codec: Codec::with_level_near(CODEC, None).expect("it is a codec"),
        scratch: temporary::large_files(),
        cache_to: None,
        dry_run: false,
        explain,
    };
    let push = |certificates| {
        let client = RegistryArgs::default().client_with(to, certificates)?;
        let watch = Watch::of_layers(file.spec.layers().cloned().collect(), quiet);
        pushing.push(&client, &file, vec![to.clone()], &watch, &mut |_| {})?;
        watch.finish();
        Ok(())
    };
    let certificates = || CertificateFiles::new(None);
    let pushed = match push(certificates()) {
        Err(error) if needs_tls(&error) => push(certificates().encrypted()),
        pushed => pushed,
    };
    settings.cache.open().iter().for_each(Cache::trim);
    pushed.context(FAILED)
}

fn needs_tls(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(RegistryError::NeedsTls { .. }))
}

/// Adds the hints of this command to a registry's error.
fn explain(error: RegistryError) -> Error {
    let hint = match &error {
        // The caller tries again with TLS.
        RegistryError::NeedsTls { .. } => return error.into(),
        RegistryError::Unauthorized { host, anonymous: true, .. } => format!(
            "log in with `skopeo login {host}`, `podman login {host}` or `docker login {host}`, or set REGISTRY_AUTH_FILE to a file \
             with credentials"
        ),
        RegistryError::Unauthorized { host, .. } => {
            format!("log in again with `skopeo login {host}`; the user may also lack the right to push")
        }
        RegistryError::Request { source, host, .. } if diagnosis::is_tls(source) => format!(
            "put the registry's ca.crt into /etc/containers/certs.d/{host}; for a registry without TLS, pass \
             --copy-args=--dest-tls-verify=false"
        ),
        RegistryError::Request { source, .. } => match is_unknown_name(source) {
            true => "check the spelling of the registry's name, and the network connection".into(),
            false => "check the registry's address and port, and whether it is running".into(),
        },
        // An old registry, which knows only Docker's format.
        RegistryError::Refused { code: Some(code), .. } if code == "MANIFEST_INVALID" => {
            "pass --copy-args=--format=v2s2 for a registry that accepts only Docker's format".into()
        }
        _ => return diagnosis::of_registry(error),
    };
    hinted(error, hint)
}

/// Returns whether the registry's name has no address.
fn is_unknown_name(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains("dns error") {
            return true;
        }
        next = error.source();
    }
    false
}

/// Stores in the cache the archive hashes of the image that was built. Failures only cost time.
fn remember_archives(spec: &Path) {
    let Ok(settings) = EnvironmentArgs::read(COMMAND) else { return };
    let file: Option<SpecFile<Content>> = SpecFile::read_content(spec, settings.store.store_of(spec)).ok();
    if let Some((cache, file)) = settings.cache.open().zip(file) {
        pushing::remember_archives(&file, &cache);
    }
}
