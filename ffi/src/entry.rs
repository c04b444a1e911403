//! The functions behind the bridge.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use bytesize::ByteSize;
use nixply_documents::{go_json, wording};
use nixply_oci::{Digest, reference};
use nixply_packer::image::IndexedImage;
use nixply_packer::request::{BuilderInput, BuilderJob, BuiltImage, IndexRequest, LayerPlan, PlannedLayer};
use nixply_packer::{Cache, Error, FleetRequest, ImageRequest, ImageSpec, Packer, Packing};
use nixply_planning::{Closure, StorePath};

use crate::bridge::{self, Observer};
use crate::convert;
use crate::drive::drive;

/// An error's text with all its causes, as it reaches C++.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<nixply_documents::Error> for Failure {
    fn from(error: nixply_documents::Error) -> Self {
        nixply_packer::Error::from(error).into()
    }
}

impl From<nixply_packer::Error> for Failure {
    fn from(error: nixply_packer::Error) -> Self {
        let text = error.chain();
        Self(match hint(&error) {
            Some(hint) => format!("{text}: {hint}"),
            None => text,
        })
    }
}

/// Returns a hint for an error in an evaluation or a derivation.
fn hint(error: &nixply_packer::Error) -> Option<&'static str> {
    use nixply_packer::Error;
    use nixply_planning::Error as PlanningError;
    match error {
        Error::Planning(PlanningError::LockFile { .. }) => Some(
            "write the lock file with the program nixply (docs/lock-files.md); after a merge conflict, take one side and \
             update it",
        ),
        Error::Planning(PlanningError::NotInLock { .. }) => {
            Some("update the lock file for all its images with the program nixply (docs/lock-files.md)")
        }
        Error::OfImage { source, .. } => hint(source),
        _ => None,
    }
}

/// Runs an entry's body; a panic becomes an error. It must not reach C++: cxx would abort the user's `nix build`.
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "no message".into());
        Err(Failure(format!("internal error in nixply; please report it: {text}")))
    })
}

#[allow(clippy::ptr_arg, reason = "what C++ has is a Vec")]
pub(crate) fn build_image(
    request: &str,
    closure: &Vec<bridge::PathInfo>,
    settings: &bridge::PackerSettings,
    observer: Pin<&mut Observer>,
) -> Result<bridge::BuiltImage, Failure> {
    guarded(|| {
        let request = ImageRequest::from_json(request, "request")?;
        let built = packed(closure, settings, observer, |closure, packing| {
            Ok(vec![(name(&request)?, request.build(closure, packing)?)])
        })?;
        Ok(built.into_iter().next().expect("there is one request"))
    })
}

#[allow(clippy::ptr_arg, reason = "what C++ has is a Vec")]
pub(crate) fn build_images(
    keys: &Vec<String>,
    requests: &Vec<String>,
    closure: &Vec<bridge::PathInfo>,
    settings: &bridge::PackerSettings,
    observer: Pin<&mut Observer>,
) -> Result<Vec<bridge::BuiltImage>, Failure> {
    guarded(|| {
        let image = |(key, request): (&String, &String)| {
            Ok((key.clone(), ImageRequest::from_json(request, &format!("image {key}"))?))
        };
        let mut fleet =
            FleetRequest::new(keys.iter().zip(requests).map(image).collect::<Result<_, Error>>()?)?;
        let names = fleet.images().iter().map(|(key, request)| Ok((key.clone(), name(request)?)));
        let names: BTreeMap<String, String> = names.collect::<Result<_, Error>>()?;
        packed(closure, settings, observer, |closure, packing| {
            let mut built = fleet.build(closure, packing)?;
            let image = |key| (names[key].clone(), built.remove(key).expect("the fleet builds every image"));
            Ok(keys.iter().map(image).collect())
        })
    })
}

/// Packs images and converts the results for C++.
fn packed(
    closure: &[bridge::PathInfo],
    settings: &bridge::PackerSettings,
    mut observer: Pin<&mut Observer>,
    build: impl FnOnce(&Closure, &Packing<'_>) -> Result<Vec<(String, BuiltImage)>, Error> + Send,
) -> Result<Vec<bridge::BuiltImage>, Failure> {
    let (closure, store) = (convert::closure(closure)?, convert::store(settings));
    let shared = settings.cache_shared.iter().map(Into::into).collect();
    let limit = limit(&settings.cache_limit)?;
    let cache = || Cache::new(&settings.cache_dir).with_shared(shared).with_limit(limit);
    let cache = (!settings.cache_dir.is_empty()).then(cache);
    let packer = packer(settings).with_cache(cache.clone());
    let built = drive(observer.as_mut(), |control| build(&closure, &Packing::new(&store, &packer, control)))?;
    if let Some(cache) = cache {
        cache.trim();
    }
    for (_, image) in &built {
        warn(&image.warnings, observer.as_mut());
    }
    Ok(built.into_iter().map(|(name, image)| built_image(name, image)).collect())
}

/// The name of an image as registries accept it.
fn name(request: &ImageRequest) -> Result<String, Error> {
    Ok(reference::canonical_name(request.name.as_deref().unwrap_or_default())?)
}

fn built_image(name: String, built: BuiltImage) -> bridge::BuiltImage {
    let spec = &built.spec;
    bridge::BuiltImage {
        name,
        references: built.references.iter().map(StorePath::to_string).collect(),
        layers: spec.layers.iter().map(convert::layer_info).collect(),
        config_digest: Digest::of(&spec.config_blob()).to_string(),
        manifest_digest: manifest_digest(spec),
        description: text(built.description()),
        spec: text(built.json),
    }
}

/// Returns the digest of an image's manifest. nix2container records no size for a base image's layers. Without all sizes, there is
/// no manifest yet, and the text is empty.
fn manifest_digest(spec: &ImageSpec) -> String {
    let manifest = || Digest::of(&go_json::compact(&spec.manifest())).to_string();
    let sizes_known = spec.layers.iter().all(|layer| layer.size > 0);
    if sizes_known { manifest() } else { String::new() }
}

#[allow(clippy::ptr_arg, reason = "what C++ has is a Vec")]
pub(crate) fn build_index(
    request: &str,
    closure: &Vec<bridge::PathInfo>,
    settings: &bridge::PackerSettings,
) -> Result<bridge::BuiltIndex, Failure> {
    guarded(|| {
        let request = IndexRequest::from_json(request, "request")?;
        let name = reference::canonical_name(request.name.as_deref().unwrap_or_default())?;
        let built = request.build(&convert::closure(closure)?, &convert::store(settings))?;
        let info = |image: &IndexedImage| bridge::PlatformInfo {
            platform: image.spec.platform().to_string(),
            config_digest: Digest::of(&image.spec.config_blob()).to_string(),
            manifest_digest: manifest_digest(&image.spec),
        };
        let images: Vec<_> = built.spec.images.iter().map(info).collect();
        let index = || {
            let manifests = built.spec.images.iter().map(|image| image.spec.manifest());
            Digest::of(&go_json::compact(&built.spec.index(&manifests.collect::<Vec<_>>()))).to_string()
        };
        let sizes_known = images.iter().all(|image| !image.manifest_digest.is_empty());
        Ok(bridge::BuiltIndex {
            description: text(built.description()),
            name,
            references: built.references.iter().map(StorePath::to_string).collect(),
            index_digest: if sizes_known { index() } else { String::new() },
            images,
            spec: text(built.json),
        })
    })
}

#[allow(clippy::ptr_arg, reason = "what C++ has is a Vec")]
pub(crate) fn plan_image(
    request: &str,
    closure: &Vec<bridge::PathInfo>,
    settings: &bridge::PackerSettings,
    observer: Pin<&mut Observer>,
) -> Result<Vec<bridge::LayerInfo>, Failure> {
    guarded(|| {
        let request = ImageRequest::from_json(request, "request")?;
        let (closure, store) = (convert::closure(closure)?, convert::store(settings));
        let plan = drive(observer, |control| request.plan_until(&closure, &store, control.stop()))?;
        let planned = |layer: &LayerPlan| bridge::LayerInfo {
            digest: String::new(),
            diff_id: String::new(),
            size: layer.nar_size(&closure),
            media_type: request.compression.media_type().into(),
            paths: layer.paths.iter().map(|path| path.path.to_string()).collect(),
        };
        let info = |layer: &PlannedLayer| match layer {
            PlannedLayer::Made(layer) => convert::layer_info(layer),
            PlannedLayer::ToPack(layer) => planned(layer),
        };
        Ok(plan.layers.iter().map(info).collect())
    })
}

pub(crate) fn run_builder(
    attrs: &str,
    settings: &bridge::PackerSettings,
    mut observer: Pin<&mut Observer>,
) -> Result<(), Failure> {
    guarded(|| {
        let input = BuilderInput::from_attrs(attrs)?;
        let (store, packer) = (convert::store(settings), packer(settings));
        let BuilderJob::Packing(job) = input.job(&store)? else {
            let why = "builtin:nixply writes no Nix database: give nix/nix-database.nix the program nixply as its builder";
            return Err(Failure(why.into()));
        };
        let warnings = drive(observer.as_mut(), |control| job.run(&Packing::new(&store, &packer, control)))?;
        warn(&warnings, observer);
        Ok(())
    })
}

fn packer(settings: &bridge::PackerSettings) -> Packer {
    Packer::new(settings.threads as usize).with_store_check(settings.check_store)
}

/// Parses the setting for the maximum size of the cache, in bytes.
fn limit(text: &str) -> Result<u64, Error> {
    let given = if text.is_empty() { "0" } else { text };
    let size: ByteSize = given.parse().map_err(|_| {
        let why = "expected a number of bytes, or a size with a unit as in 500MB or 20GiB";
        Error::invalid(format!("setting nixply-cache-limit {}", wording::quoted(text)), why)
    })?;
    Ok(if size.as_u64() == 0 { Cache::DEFAULT_LIMIT } else { size.as_u64() })
}

fn warn(warnings: &[String], mut observer: Pin<&mut Observer>) {
    for warning in warnings {
        observer.as_mut().warn(&wording::line(warning));
    }
}

fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).expect("our JSON is made of strings")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let failure = guarded::<()>(|| panic!("the {} broke", "thing")).unwrap_err().to_string();
        assert_eq!(failure, "internal error in nixply; please report it: the thing broke");
        let failure = guarded::<()>(|| panic!("plain")).unwrap_err().to_string();
        assert!(failure.ends_with(": plain"), "{failure}");
    }

    #[test]
    fn cache_limits_are_bytes_or_have_a_unit() {
        for (text, bytes) in
            [("", Cache::DEFAULT_LIMIT), ("0", Cache::DEFAULT_LIMIT), ("1000", 1000), ("2 GiB", 2 << 30)]
        {
            assert_eq!(limit(text).unwrap(), bytes, "{text}");
        }
        let error = limit("much").unwrap_err().to_string();
        assert!(
            error.starts_with("setting nixply-cache-limit \"much\" is not valid: expected a number of bytes"),
            "{error}"
        );
    }
}
