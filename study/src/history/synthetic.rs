//! Synthetic histories from a seed and documented distributions.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use nixply_documents::wording::{self, quoted};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Geometric, LogNormal};

use super::packages::{self, Package, Step};
use super::release::{History, Propagation};
use crate::error::{Error, Result};

/// Parameters of a synthetic history.
///
/// Packages are created in order. Package i refers to 1 + Geometric(0.3) (mean 3.3) earlier ones. Two times
/// in three, a reference is drawn from the packages that others already refer to, otherwise evenly, so that a
/// few packages have many dependents. Sizes are log-normal: median 200 kB, sigma 2.2 (a mean of 2.2 MB, and a
/// few of hundreds of MB). The chance that a package changes in a release is log-normal: median 0.4 %, sigma
/// 1.5, at most 60 %. Each image has an application, which changes with a chance of 40 %. A change alters the
/// size by up to 1 %.
///
/// Images belong to families of eight. A family has a list of packages from the last half, twice as many as
/// an image has roots. An image's roots are its application, which refers to eight packages of the last half,
/// and `roots` packages: nine of ten from its family's list and the others from the last half. In one release
/// of ten there is a new package, and an application refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fleet {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Number of packages without the applications. Some may be in no image.
    pub packages: usize,
    /// Number of images.
    pub images: usize,
    /// Number of packages that each image names in addition to its application.
    pub roots: usize,
    /// Number of releases.
    pub releases: usize,
}

const MEDIAN_SIZE: f64 = 200e3;
const SIZE_SIGMA: f64 = 2.2;
const MEDIAN_CHANCE: f64 = 0.004;
const CHANCE_SIGMA: f64 = 1.5;
const MAX_CHANCE: f64 = 0.6;
const APPLICATION_CHANCE: f64 = 0.4;
const FAMILY: usize = 8;
const NEW_PACKAGE_CHANCE: f64 = 0.1;

impl Default for Fleet {
    /// Returns a fleet that is small enough to be studied in seconds.
    fn default() -> Self {
        Self { seed: 1, packages: 2000, images: 10, roots: 40, releases: 50 }
    }
}

impl FromStr for Fleet {
    type Err = Error;

    /// Parses `seed=1,packages=2000,images=10,roots=40,releases=50`, in any order. A missing value has its
    /// default.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: String| Error::invalid(format!("synthetic history {}", quoted(text)), why);
        let mut fleet = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| invalid(format!("expected NAME=NUMBER, found {}", quoted(part))))?;
            let number: u64 = value.parse().map_err(|_| {
                invalid(format!("{} is {}, expected a number", wording::short(name), quoted(value)))
            })?;
            let count = usize::try_from(number).map_err(|error| invalid(error.to_string()))?;
            match name {
                "seed" => fleet.seed = number,
                "packages" => fleet.packages = count,
                "images" => fleet.images = count,
                "roots" => fleet.roots = count,
                "releases" => fleet.releases = count,
                _ => {
                    let why = "expected seed, packages, images, roots or releases";
                    return Err(invalid(format!("{why}, found {}", quoted(name))));
                }
            }
        }
        Ok(fleet)
    }
}

impl Fleet {
    /// Creates the history. It is the same on every machine.
    pub fn history(&self, propagation: Propagation) -> Result<History> {
        if self.packages < 20 || self.images == 0 || self.releases == 0 {
            let why = "it needs at least 20 packages, 1 image and 1 release";
            return Err(Error::invalid("synthetic history", why));
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let sizes = LogNormal::new(MEDIAN_SIZE.ln(), SIZE_SIGMA).expect("sigma is finite");
        let chances = LogNormal::new(MEDIAN_CHANCE.ln(), CHANCE_SIGMA).expect("sigma is finite");
        let degrees = Geometric::new(0.3).expect("a probability");

        let mut packages: BTreeMap<String, Package> = BTreeMap::new();
        let mut chance: BTreeMap<String, f64> = BTreeMap::new();
        let mut names: Vec<String> = Vec::new();
        let mut referred: Vec<usize> = Vec::new();
        for number in 0..self.packages {
            let mut references = BTreeSet::new();
            if number > 0 {
                for _ in 0..=degrees.sample(&mut random).min(40) {
                    let popular = random.random_bool(2.0 / 3.0);
                    let other = match referred.choose(&mut random) {
                        Some(other) if popular => *other,
                        _ => random.random_range(0..number),
                    };
                    references.insert(other);
                    referred.push(other);
                }
            }
            let name = format!("package{number:05}");
            let references = references.into_iter().map(|other| names[other].clone()).collect();
            packages.insert(name.clone(), package(&name, sizes.sample(&mut random), references));
            chance.insert(name.clone(), chances.sample(&mut random).min(MAX_CHANCE));
            names.push(name);
        }
        let top = &names[self.packages / 2..];
        let mut images = BTreeMap::new();
        let mut family: Vec<String> = Vec::new();
        for number in 0..self.images {
            if number % FAMILY == 0 {
                family = top.choose_multiple(&mut random, 2 * self.roots).cloned().collect();
            }
            let name = format!("application{number:03}");
            let references = top.choose_multiple(&mut random, 8).cloned().collect();
            packages.insert(name.clone(), package(&name, sizes.sample(&mut random), references));
            chance.insert(name.clone(), APPLICATION_CHANCE);
            let others = self.roots / 10;
            let mut roots: BTreeSet<String> = top.choose_multiple(&mut random, others).cloned().collect();
            roots.extend(family.choose_multiple(&mut random, self.roots - others).cloned());
            roots.insert(name);
            images.insert(format!("image{number:03}"), roots.into_iter().collect());
        }

        let mut steps = vec![Step { name: "1".into(), removed: Vec::new(), set: packages.clone() }];
        for release in 2..=self.releases {
            let mut set = BTreeMap::new();
            for (name, chance) in &chance {
                if random.random_bool(*chance) {
                    let package = packages.get_mut(name).expect("all have a chance");
                    package.version = format!("1.{release}");
                    package.size = (package.size as f64 * random.random_range(0.99..1.01)) as u64 + 1;
                    set.insert(name.clone(), package.clone());
                }
            }
            if random.random_bool(NEW_PACKAGE_CHANCE) {
                let name = format!("new{release:05}");
                let references = names.choose_multiple(&mut random, 3).cloned().collect();
                let new = package(&name, sizes.sample(&mut random), references);
                let application = format!("application{:03}", random.random_range(0..self.images));
                let user = packages.get_mut(&application).expect("each image has one");
                user.references.push(name.clone());
                user.version = format!("1.{release}");
                set.insert(application, user.clone());
                set.insert(name.clone(), new.clone());
                packages.insert(name, new);
            }
            steps.push(Step { name: release.to_string(), removed: Vec::new(), set });
        }
        let what = "synthetic history";
        let releases = packages::releases(what, &images, steps, propagation)?;
        Ok(History {
            name: format!("synthetic-{}", self.seed),
            about: format!(
                "Synthetic, from seed {}: {} packages, {} images of {} roots and an application, {} releases.",
                self.seed, self.packages, self.images, self.roots, self.releases
            ),
            images: images.into_keys().collect(),
            releases,
        })
    }
}

fn package(name: &str, size: f64, references: Vec<String>) -> Package {
    Package { source: name.to_owned(), version: "1.1".into(), size: size as u64 + 1, references }
}
