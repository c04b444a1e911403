//! Requests for several images, which are planned and packed together.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use nixply_documents::document;
use nixply_documents::wording::quoted;
use nixply_planning::plan::{LayerAssigner, Lock, Member, Plan, Stop, lock_names, plan_fleet_until};
use nixply_planning::{Closure, PlannedPath, Store};
use serde_json::Value;

use super::image::ImageRequest;
use super::inputs::read_lock;
use super::layer::LayerPlan;
use super::plan::{BuiltImage, ImagePlan};
use crate::compress::Codec;
use crate::error::{Error, Result};
use crate::image::spec::Layer;
use crate::pack::Packing;

/// Several images. Their common paths are in shared layers, within each image's limit: see
/// [`Strategy::MinChurn`](nixply_planning::Strategy::MinChurn). Images with another strategy are planned by themselves.
#[derive(Debug, Clone)]
pub struct FleetRequest {
    images: BTreeMap<String, ImageRequest>,
    /// The name of each image in a lock file, by key.
    names: BTreeMap<String, String>,
    /// The lock file of all images, in the store.
    lock: Option<String>,
}

impl FleetRequest {
    /// Reads a request: an object of requests in the form of [`ImageRequest::from_json`]. `name` is for messages.
    pub fn from_json(json: &str, name: &str) -> Result<Self> {
        let given: BTreeMap<String, Value> = document::read(json, name)?;
        check_keys(given.keys()).map_err(|error| error.in_document(name))?;
        let read = |(key, value): (String, Value)| {
            let image = ImageRequest::from_value(value, &format!("{name}, image {key}"))?;
            Ok((key, image))
        };
        Self::new(given.into_iter().map(read).collect::<Result<_>>()?)
    }

    /// Makes a fleet of images by key. An image without a name has its key as its name in a lock file. Two images with the
    /// same name, different lock files, an empty fleet, and keys that are not valid names of images are errors.
    pub fn new(mut images: BTreeMap<String, ImageRequest>) -> Result<Self> {
        check_keys(images.keys())?;
        let mut names = BTreeMap::new();
        let mut keys: HashMap<String, String> = HashMap::new();
        let mut lock: Option<(String, String)> = None;
        for (key, image) in &mut images {
            if let Some(own) = image.lock.take() {
                match &lock {
                    Some((other, lock)) if *lock != own => {
                        let why = format!(
                            "{other} has another lock file: images that are planned together must share one"
                        );
                        return Err(Error::invalid(format!("lock of image {key}"), why));
                    }
                    _ => lock = Some((key.clone(), own)),
                }
            }
            let name = image.name.clone().unwrap_or_else(|| key.clone());
            names.insert(key.clone(), name.clone());
            if let Some(other) = keys.insert(name.clone(), key.clone()) {
                let why = format!(
                    "{other} also has the name {}, which identifies an image in a lock file",
                    quoted(&name)
                );
                return Err(Error::invalid(format!("name of image {key}"), why));
            }
        }
        Ok(Self { images, names, lock: lock.map(|(_, lock)| lock) })
    }

    /// Returns the images, by key.
    pub fn images(&mut self) -> &mut BTreeMap<String, ImageRequest> {
        &mut self.images
    }

    /// Returns the lock file for the next release: see [`Lock::update`]. It is an error if the file has an image that is not
    /// in this fleet, because its layers would be lost, or if no image here uses strategy `min-churn`.
    pub fn updated_lock(&self, former: Option<&Lock>, closure: &Closure, store: &Store) -> Result<Lock> {
        let names: HashSet<&str> = self.names.values().map(String::as_str).collect();
        let former_names = former.into_iter().flat_map(Lock::images);
        let lacking: Vec<String> =
            former_names.filter(|name| !names.contains(name)).map(str::to_owned).collect();
        if !lacking.is_empty() {
            return Err(Error::ImagesMissing { images: lacking });
        }
        closure.check(store)?;
        let records = self.record(closure, store, Stop::default())?;
        if records.is_empty() {
            let why = "it requires an image with strategy \"min-churn\", and no image here uses it";
            return Err(Error::invalid("lock file", why));
        }
        Ok(Lock::update(former, &members(&records))?)
    }

    /// Plans all images. This reads no store path except base images' specs and the lock file. The result is by key.
    pub fn plan(&self, closure: &Closure, store: &Store) -> Result<BTreeMap<String, ImagePlan>> {
        self.plan_until(closure, store, Stop::default())
    }

    /// Like [`FleetRequest::plan`], until `stop` is set.
    pub fn plan_until(
        &self,
        closure: &Closure,
        store: &Store,
        stop: Stop<'_>,
    ) -> Result<BTreeMap<String, ImagePlan>> {
        closure.check(store)?;
        let lock = self.lock.as_ref().map(|path| read_lock(path, "lock", store)).transpose()?;
        self.plan_checked(lock.as_ref(), closure, store, stop)
    }

    /// Like [`FleetRequest::plan`], with a lock file that has been read.
    pub fn plan_with(
        &self,
        lock: Option<&Lock>,
        closure: &Closure,
        store: &Store,
    ) -> Result<BTreeMap<String, ImagePlan>> {
        closure.check(store)?;
        self.plan_checked(lock, closure, store, Stop::default())
    }

    fn plan_checked(
        &self,
        lock: Option<&Lock>,
        closure: &Closure,
        store: &Store,
        stop: Stop<'_>,
    ) -> Result<BTreeMap<String, ImagePlan>> {
        let records = self.record(closure, store, stop)?;
        let members = members(&records);
        let plans = plan_fleet_until(&members, lock, stop)?;
        let made = Made(members.iter().map(|member| member.name.to_owned()).zip(plans).collect());
        let plan = |(key, image): (&String, &ImageRequest)| {
            let assigner: (&dyn LayerAssigner, &str) = (&made, &self.names[key]);
            let plan = image.plan_checked(Some(assigner), closure, store, stop);
            Ok((key.clone(), plan.map_err(|error| self.within(key, error))?))
        };
        self.images.iter().map(plan).collect()
    }

    /// Collects the paths to place.
    fn record(&self, closure: &Closure, store: &Store, stop: Stop<'_>) -> Result<Vec<Record>> {
        let recorder = Recorder::default();
        for (key, image) in &self.images {
            let assigner: (&dyn LayerAssigner, &str) = (&recorder, &self.names[key]);
            image
                .plan_checked(Some(assigner), closure, store, stop)
                .map_err(|error| self.within(key, error))?;
        }
        Ok(recorder.0.into_inner())
    }

    /// Adds the image to an error, if there are several images.
    fn within(&self, key: &str, error: Error) -> Error {
        match self.images.len() {
            1 => error,
            _ => Error::OfImage { image: key.to_owned(), source: Box::new(error) },
        }
    }

    /// Plans and packs all images, at the same time. A layer that several images have is packed once. The result is by key.
    pub fn build(&self, closure: &Closure, packing: &Packing<'_>) -> Result<BTreeMap<String, BuiltImage>> {
        let plans = self.plan_until(closure, packing.store, packing.control.stop())?;
        let directories: HashSet<&str> = self.images.values().flat_map(ImageRequest::directories).collect();
        let mut to_pack: HashMap<Codec, Vec<LayerPlan>> = HashMap::new();
        let mut seen = HashSet::new();
        for (key, plan) in &plans {
            let codec = self.images[key].compression;
            for layer in plan.to_pack().filter(|layer| seen.insert((codec, &layer.paths))) {
                to_pack.entry(codec).or_default().push(layer.clone());
            }
        }
        let mut packed: HashMap<(Codec, Vec<PlannedPath>), Layer> = HashMap::new();
        for (codec, layers) in to_pack {
            let made = packing.pack(layers, codec, closure, &directories, &())?;
            packed.extend(made.into_iter().map(|layer| ((codec, layer.paths.clone()), layer)));
        }
        let built = |(key, plan): (String, ImagePlan)| {
            let image = &self.images[&key];
            let layer = |planned: &LayerPlan| {
                let made = &packed[&(image.compression, planned.paths.clone())];
                Layer { history: planned.history.clone(), ..made.clone() }
            };
            let made = plan.to_pack().map(layer).collect();
            Ok((key, image.assembled(plan, made, closure, packing)?))
        };
        plans.into_iter().map(built).collect()
    }
}

/// Checks images' keys, which may become names in a lock file.
fn check_keys<'k>(keys: impl ExactSizeIterator<Item = &'k String>) -> Result<()> {
    if keys.len() == 0 {
        return Err(Error::invalid("object of images", "it needs at least one image"));
    }
    for key in keys {
        lock_names::check_image(key).map_err(|why| Error::invalid(format!("image {}", quoted(key)), why))?;
    }
    Ok(())
}

/// The paths to place of one image.
#[derive(Debug)]
struct Record {
    name: String,
    closure: Closure,
    paths: Vec<PlannedPath>,
    max_layers: usize,
}

fn members(records: &[Record]) -> Vec<Member<'_>> {
    let mut members = Vec::with_capacity(records.len());
    for Record { name, closure, paths, max_layers } in records {
        members.push(Member { name, closure, paths: paths.clone(), max_layers: *max_layers });
    }
    members
}

/// An assigner that records the paths, and puts them in one layer.
#[derive(Debug, Default)]
struct Recorder(RefCell<Vec<Record>>);

impl LayerAssigner for Recorder {
    fn assign(&self, member: &Member<'_>, _stop: Stop<'_>) -> nixply_planning::Result<Plan> {
        self.0.borrow_mut().push(Record {
            name: member.name.to_owned(),
            closure: member.closure.clone(),
            paths: member.paths.clone(),
            max_layers: member.max_layers,
        });
        Ok(vec![member.paths.clone()])
    }
}

/// Plans that were made before, by image.
#[derive(Debug)]
struct Made(HashMap<String, Plan>);

impl LayerAssigner for Made {
    fn assign(&self, member: &Member<'_>, _stop: Stop<'_>) -> nixply_planning::Result<Plan> {
        Ok(self.0[member.name].clone())
    }
}

#[cfg(test)]
mod tests {
    use nixply_planning::PathInfo;

    use super::*;

    fn error(json: &str) -> String {
        FleetRequest::from_json(json, "fleet.json").unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_invalid_part_of_a_fleet() {
        assert_eq!(
            error(r#"{"a": {"name": "web"}, "b": {"name": "web"}}"#),
            "name of image b is not valid: a also has the name \"web\", which identifies an image in a lock file"
        );
        assert_eq!(
            error(r#"{"a": {"lock": "/nix/store/x"}, "b": {}, "c": {"lock": "/nix/store/y"}}"#),
            "lock of image c is not valid: a has another lock file: images that are planned together must share one"
        );
        assert_eq!(
            error(r#"{"a": {"maxLayer": 1}}"#),
            "fleet.json, image a cannot have the key `maxLayer`; did you mean `maxLayers`?"
        );
        assert_eq!(
            error(r#"{"a": {"layers": [{}, {"maxLayers": "many"}]}}"#),
            "fleet.json, image a: layers[1].maxLayers must be a whole number from 1 to 1000000, not the text \"many\""
        );
        assert_eq!(error(r#"{"a": []}"#), "fleet.json, image a must be an object, not a list");
        assert_eq!(
            error(r#"{"a": {"layers": [{"lock": "/nix/store/x"}]}}"#),
            "fleet.json, image a: layers[0].lock must be an object of file and image, not the text \"/nix/store/x\""
        );
        assert_eq!(
            error(r#"{"a": {"tag": "1"}, "b": {}, "a": {"tag": "2"}}"#),
            "fleet.json: line 1, column 32: the key \"a\" occurs twice"
        );
        let fleet =
            FleetRequest::from_json(r#"{"a": {}, "b": {"lock": "/nix/store/x"}}"#, "fleet.json").unwrap();
        assert_eq!((&*fleet.names["a"], fleet.lock.as_deref()), ("a", Some("/nix/store/x")));
    }

    #[test]
    fn an_update_that_loses_an_image_is_an_error() {
        let store = Store::at("/nix/store");
        let path = |name: &str| format!("/nix/store/{}-{name}", "a".repeat(32));
        let closure = Closure::new(["a", "b"].map(|name| PathInfo {
            path: path(name).parse().unwrap(),
            references: Vec::new(),
            nar_hash: String::new(),
            nar_size: 10,
        }));
        let image = |strategy: &str| {
            format!(
                r#"{{"arch": "amd64", "maxLayers": 2, "strategy": "{strategy}", "config": {{"Env": ["A={}"]}},
                    "layers": [{{"deps": ["{}"], "strategy": "nixply"}}]}}"#,
                path("a"),
                path("b")
            )
        };
        let fleet = |json: &str| FleetRequest::from_json(json, "fleet.json").unwrap();
        let both = fleet(&format!(r#"{{"web": {0}, "worker": {0}}}"#, image("nixply")));
        let lock = both.updated_lock(None, &closure, &store).unwrap();
        assert_eq!(lock.images().into_iter().collect::<Vec<_>>(), ["web", "worker"]);
        assert_eq!(both.updated_lock(Some(&lock), &closure, &store).unwrap(), lock);
        let web = fleet(&format!(r#"{{"web": {}}}"#, image("nixply")));
        assert_eq!(
            web.updated_lock(Some(&lock), &closure, &store).unwrap_err().to_string(),
            "this update would remove worker from the lock file: plan all its images together"
        );
        let mut left = lock.clone();
        assert!(left.forget("worker"));
        assert_eq!(web.updated_lock(Some(&left), &closure, &store).unwrap(), left);
        let size = fleet(r#"{"web": {"arch": "amd64", "strategy": "size"}}"#);
        assert_eq!(
            size.updated_lock(Some(&left), &closure, &store).unwrap_err().to_string(),
            "lock file is not valid: it requires an image with strategy \"min-churn\", and no image here uses it"
        );
    }

    #[test]
    fn errors_name_the_image() {
        let planned = |json: &str| {
            let fleet = FleetRequest::from_json(json, "fleet.json").unwrap();
            fleet.plan(&Closure::default(), &Store::at("/nix/store")).unwrap_err().chain()
        };
        let none = "parents[0] 3 is not valid: expected the index of an earlier layer; there are 0";
        assert_eq!(planned(r#"{"a": {}, "b": {"parents": [3]}}"#), format!("image b: {none}"));
        assert_eq!(planned(r#"{"b": {"parents": [3]}}"#), none);
        assert_eq!(
            error(r#"{"b": {"maxLayers": 0}}"#),
            "fleet.json, image b: maxLayers must be a whole number from 1 to 1000000, not the number 0"
        );
        let unknown = error(r#"{"a": {"strategy": "sizes"}, "b": {}}"#);
        let known = "fleet.json, image a: strategy must be one of min-churn, popularity, ";
        assert!(unknown.starts_with(known), "{unknown}");
        assert!(unknown.ends_with(", not \"sizes\"; did you mean \"size\"?"), "{unknown}");
    }

    #[test]
    fn a_lock_file_requires_min_churn() {
        for given in [r#""strategy": "size""#, r#""groups": []"#] {
            for (request, place) in [
                (format!(r#"{{"lock": "/nix/store/x", {given}}}"#), "lock"),
                (
                    format!(
                        r#"{{"layers": [{{"lock": {{"file": "/nix/store/x", "image": "y"}}, {given}}}]}}"#
                    ),
                    "layers[0].lock",
                ),
            ] {
                let error = ImageRequest::from_json(&request, "request").unwrap_err().to_string();
                let why =
                    format!("request: {place} is not valid: it requires strategy \"min-churn\", got \"");
                assert!(error.starts_with(&why), "{error}");
            }
        }
    }
}
