//! `nixply base`.

mod lock_file;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use data_encoding::BASE64;
use nixply_oci::Platform;
use nixply_registry::client::{Client, Index, Reader, Reference, RemoteImage, Version};

use self::lock_file::{Base, LockFile, PlatformImage};
use crate::arguments::{RegistryArgs, Verbosity, values};
use crate::failure::{did_you_mean, hinted, misused};
use crate::output::print;
use crate::terminal::{Downloading, Page};
use crate::{diagnosis, documents};

/// Record the digests and hashes of base images
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Lock(Box<LockArgs>),
}

/// Write the digests and hashes of base images to a lock file
///
/// The lock file has an entry per base image: name, tag, digest, and for each platform the digest of its manifest and the hash for
/// nix2container.pullImage. nix2container.pullImageFromLock { lockFile = FILE; name = NAME; } pulls an entry. Without images, updates all
/// entries. Reads the blobs of an image only if its digest has changed, and prints each change.
///
/// Examples:
///
/// nixply base lock bases.json debian=docker.io/debian:bookworm --platform linux/amd64 --platform linux/arm64
///
/// nixply base lock bases.json
#[derive(clap::Args)]
struct LockArgs {
    /// Lock file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Images to add or update: [NAME=]REFERENCE, or the name of an entry. The default name is the last part of the repository
    #[arg(value_name = "[NAME=]REFERENCE")]
    images: Vec<String>,

    /// Platform of the images, such as linux/arm64. Can be repeated [default: those of the entry; for a new entry, linux/amd64 and
    /// linux/arm64 as far as the image has them]
    #[arg(long = "platform", value_name = "OS/ARCH", value_parser = values::platform)]
    platforms: Vec<Platform>,

    /// Remove this entry. Can be repeated
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,

    #[command(flatten)]
    verbosity: Verbosity,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// Platforms of a new entry.
const DEFAULT_PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

pub(crate) fn run(args: &Args) -> Result<()> {
    let Command::Lock(args) = &args.command;
    let mut lock = LockFile::read(&args.file)?;
    let name_of_file = documents::name_of(&args.file);
    for name in &args.remove {
        if lock.images.remove(name).is_none() {
            bail!("--remove: {name_of_file} has no entry {name}");
        }
    }
    let wanted = args.wanted(&lock)?;
    if wanted.is_empty() && args.remove.is_empty() {
        return Err(misused(format!(
            "{name_of_file} has no entries; name an image, as in ghcr.io/team/base:1.2"
        )));
    }
    let mut page = Page::default();
    let mut client: Option<Client> = None;
    for (name, reference) in wanted {
        let client = match &client {
            Some(client) => client,
            None => client.insert(args.registry.client(&reference)?),
        };
        let old = lock.images.get(&name);
        let new = args.lock(client, &reference, old)?;
        report(&name, old, &new, &mut page);
        lock.images.insert(name, new);
    }
    lock.write(&args.file)?;
    print(page)
}

impl LockArgs {
    /// Returns the names and references of the entries to add or update.
    fn wanted(&self, lock: &LockFile) -> Result<BTreeMap<String, Reference>> {
        let of_entry = |base: &Base| format!("{}:{}", base.image, base.tag);
        let parsed = |text: &str| text.parse::<Reference>().map_err(|error| misused(error.to_string()));
        if self.images.is_empty() && self.remove.is_empty() {
            let all = lock.images.iter().map(|(name, base)| Ok((name.clone(), parsed(&of_entry(base))?)));
            return all.collect();
        }
        let mut wanted = BTreeMap::new();
        for word in &self.images {
            let (name, reference) = match (word.split_once('='), lock.images.get(word)) {
                (Some((name, reference)), _) => (name.to_owned(), parsed(reference)?),
                (None, Some(base)) => (word.clone(), parsed(&of_entry(base))?),
                (None, None) if !word.contains(['/', ':']) => {
                    let names = lock.images.keys().map(String::as_str);
                    let error = anyhow!("{} has no entry {word}", documents::name_of(&self.file));
                    let how = format!("name the image to add it, as in {word}=docker.io/{word}:latest");
                    return Err(did_you_mean(error, word, names, how));
                }
                (None, None) => {
                    let reference = parsed(word)?;
                    let last = reference.repository.name.rsplit('/').next().unwrap_or_default();
                    (last.to_owned(), reference)
                }
            };
            if name.is_empty() {
                return Err(misused(format!("the name of {word} is empty")));
            }
            if matches!(reference.version, Version::Digest(_)) {
                return Err(misused(format!(
                    "{word} names a digest; name a tag, so that the entry can be updated"
                )));
            }
            if wanted.insert(name.clone(), reference).is_some() {
                return Err(misused(format!(
                    "two images have the name {name}; give one of them another: NAME=REFERENCE"
                )));
            }
        }
        Ok(wanted)
    }

    /// Returns the entry of an image.
    fn lock(&self, client: &Client, reference: &Reference, old: Option<&Base>) -> Result<Base> {
        let reader = client.reader(&reference.repository).map_err(diagnosis::of_registry)?;
        let document = reader.document(&reference.version).map_err(diagnosis::of_registry)?;
        let digest = document.digest;
        let index = Index::of(&document.bytes);
        let mut platforms = BTreeMap::new();
        for wanted in self.platforms(index.as_ref(), old)? {
            let image = reader.image_of(document.clone(), &wanted).map_err(diagnosis::of_registry)?;
            if index.is_none() && self.platforms.is_empty() {
                if image.platform.architecture.is_empty() {
                    let error = anyhow!("the config of {reference} names no architecture");
                    return Err(hinted(error, "pass --platform OS/ARCH"));
                }
                let key = image.platform.to_string();
                platforms.insert(key, self.platform(&reader, &image, old)?);
                break;
            }
            if !image.platform.is(&wanted) && !image.platform.architecture.is_empty() {
                // An image without a platform in the index fits all platforms, until its config is read.
                if self.platforms.is_empty() && old.is_none() {
                    continue;
                }
                bail!("{reference} is an image for {}, not for {wanted}", image.platform);
            }
            platforms.insert(wanted.to_string(), self.platform(&reader, &image, old)?);
        }
        if platforms.is_empty() {
            bail!("the index {reference} has no image for {}", DEFAULT_PLATFORMS.join(" or "));
        }
        let tag = match &reference.version {
            Version::Tag(tag) => tag.clone(),
            Version::Digest(_) => unreachable!("the caller has refused digests"),
        };
        Ok(Base { image: reference.repository.to_string(), tag, digest, platforms })
    }

    /// Returns the platforms of an entry.
    fn platforms(&self, index: Option<&Index>, old: Option<&Base>) -> Result<Vec<Platform>> {
        if !self.platforms.is_empty() {
            return Ok(self.platforms.clone());
        }
        let known = old.map(|old| old.platforms.keys()).into_iter().flatten();
        let known = known
            .map(|key| key.parse::<Platform>().with_context(|| format!("the lock file's platform {key:?}")));
        let known = known.collect::<Result<Vec<_>>>()?;
        let default = || DEFAULT_PLATFORMS.iter().filter_map(|text| text.parse::<Platform>().ok());
        Ok(match index {
            _ if !known.is_empty() => known,
            None => default().take(1).collect(),
            Some(index) => {
                let there: Vec<Platform> =
                    default().filter(|wanted| index.choose(wanted).is_some()).collect();
                if there.is_empty() {
                    bail!(
                        "the index has no image for {}; it has {}",
                        DEFAULT_PLATFORMS.join(" or "),
                        index.platforms()
                    );
                }
                there
            }
        })
    }

    /// Returns the entry of a platform. If the manifest is a known one, its blobs are not read.
    fn platform(&self, reader: &Reader, image: &RemoteImage, old: Option<&Base>) -> Result<PlatformImage> {
        let digest = image.manifest.digest;
        let known = old.into_iter().flat_map(|old| old.platforms.values());
        let known = known.filter(|known| known.digest == digest).map(|known| known.sha256.clone()).next();
        let sha256 = match known {
            Some(known) => known,
            None => {
                let size = image.fields.layers.iter().map(|layer| layer.size).sum();
                let progress = Downloading::new(size, self.verbosity.quiet);
                let hash = reader.pulled_hash(image, &|bytes| progress.advance(bytes));
                format!("sha256-{}", BASE64.encode(&hash.map_err(diagnosis::of_registry)?))
            }
        };
        let Platform { os, .. } = &image.platform;
        let arch = image.platform.processor().to_string();
        Ok(PlatformImage { os: os.clone(), arch, digest, sha256 })
    }
}

/// Adds a line per platform that has changed.
fn report(name: &str, old: Option<&Base>, new: &Base, page: &mut Page) {
    let mut changed = false;
    for (platform, image) in &new.platforms {
        let former = old.and_then(|old| old.platforms.get(platform));
        let line = match former {
            Some(former) if former == image => continue,
            Some(former) => format!("{} -> {}", former.digest, image.digest),
            None => image.digest.to_string(),
        };
        changed = true;
        page.line(format!("{name}  {}:{}  {platform}  {line}", new.image, new.tag));
    }
    for platform in old.iter().flat_map(|old| old.platforms.keys()) {
        if !new.platforms.contains_key(platform) {
            changed = true;
            page.line(format!("{name}  {}:{}  {platform}  removed", new.image, new.tag));
        }
    }
    if !changed {
        page.line(format!("{name}  {}:{}  unchanged", new.image, new.tag));
    }
}
