//! `nixply push`.

mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, anyhow};
use nixply_oci::reference;
use nixply_packer::image::{IndexSpec, IndexedImage};
use nixply_packer::{Cache, Codec};
use nixply_registry::client::{Client, Reference, Version};

use self::report::Outcome;
use crate::arguments::{
    CacheArgs, CacheFromArgs, OutsideStoreArgs, RegistryArgs, ScratchArgs, StoreArgs, Verbosity,
    reference as parse, values,
};
use crate::documents::{Content, SpecFile};
use crate::failure::{hinted, misused};
use crate::output::print;
use crate::pushing::{self, Pushing};
use crate::terminal::{count, say, warning};
use crate::transfer::Watch;
use crate::{diagnosis, output};

/// Push images to a registry
///
/// Sends only blobs that the repository lacks, and packs a layer only if it is sent or if the spec does not record its digest. Prints
/// each pushed image as HOST/REPOSITORY:TAG@DIGEST. Credentials are those of podman login, skopeo login and docker login.
#[derive(clap::Args)]
#[command(
    override_usage = "nixply push [OPTIONS] <IMAGE.json>... <REFERENCE>\n       nixply push [OPTIONS] --index <REFERENCE> <IMAGE.json>..."
)]
pub(crate) struct Args {
    /// Specs or descriptions of images and image indexes, and the destination, such as ghcr.io/team/app:1.0; the tag defaults to
    /// latest. For several images, the destination ends with a slash, as in ghcr.io/team/, and each image's name is added to it
    #[arg(value_name = "IMAGE.json... REFERENCE", required = true, num_args = 1..)]
    words: Vec<String>,

    /// Push the images, which are for different platforms, as one image index to this destination
    #[arg(long, value_name = "REFERENCE", value_parser = parse)]
    index: Option<Reference>,

    /// Tag in the destination's repository, instead of the one in REFERENCE. Can be repeated
    #[arg(short, long = "tag", value_name = "TAG", value_parser = values::tag)]
    tags: Vec<String>,

    /// Further destination of the image. Blobs that a registry has in another repository are mounted, not sent. Can be repeated
    #[arg(long, value_name = "REFERENCE", value_parser = parse)]
    also: Vec<Reference>,

    /// Store in the registry where the compressed frames of the layers are, under this tag of the image's repository, such as
    /// ghcr.io/team/app:frames. With --cache-from, nixply build then fetches frames instead of compressing them
    #[arg(long, value_name = "REFERENCE", value_parser = parse, help_heading = "Cache")]
    cache_to: Option<Reference>,

    /// Codec of layers for which the spec records no compression, with an optional level as in zstd:9
    #[arg(short, long, value_name = "CODEC", default_value = "gzip", value_parser = values::codec())]
    compression: Codec,

    /// Find out what would be sent, without writing to the registry
    #[arg(long)]
    dry_run: bool,

    /// Print one JSON object per image and repository
    #[arg(long)]
    json: bool,

    /// Append a summary in Markdown to this file [default without a value: the file in GITHUB_STEP_SUMMARY]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    summary: Option<Option<PathBuf>>,

    #[command(flatten)]
    outside_store: OutsideStoreArgs,

    #[command(flatten)]
    scratch: ScratchArgs,

    #[command(flatten)]
    verbosity: Verbosity,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    cache: CacheArgs,

    #[command(flatten)]
    cache_from: CacheFromArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// Pushes the images and prints their references.
pub(crate) fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let summary = args.summary.as_ref().map(|given| summary_file(given.as_deref())).transpose()?;
    let images = args.images()?;
    let first = &images[0].1[0];
    if let Some(frames) = &args.cache_to {
        let all = images.iter().flat_map(|(_, to)| to);
        let why = match frames.version {
            Version::Digest(_) => Some("it names a digest"),
            Version::Tag(_) if all.clone().any(|to| to == frames) => Some("the image gets this tag"),
            Version::Tag(_) => None,
        };
        if let Some(why) = why {
            let hint = format!("name another tag, as in {}:frames", first.repository);
            return Err(hinted(misused(format!("--cache-to {frames}: {why}")), hint));
        }
        if !all.clone().any(|to| to.repository == frames.repository) {
            let error = misused(format!("--cache-to {frames}: no image is pushed to its repository"));
            return Err(hinted(
                error,
                format!("use a tag of the image's repository, as in {}:frames", first.repository),
            ));
        }
    }
    let client = args.registry.client(first)?;
    let cache = args.cache.open();
    args.cache_from
        .cache_from
        .iter()
        .try_for_each(|reference| client.learn(reference).map(drop).map_err(diagnosis::of_registry))?;
    let mut outcomes = Vec::new();
    let pushed = images.into_iter().try_for_each(|(file, to)| args.push(&client, &file, to, &mut outcomes));
    cache.iter().for_each(Cache::trim);
    // Also after an error: these tags are written.
    if let Some(file) = summary.filter(|_| !outcomes.is_empty()) {
        let written = output::append(&file, report::markdown(&outcomes, args.dry_run).as_bytes());
        match (&pushed, written) {
            // The error of the push is the more important one.
            (Err(_), Err(error)) => warning(format!("{error:#}")),
            (_, written) => written?,
        }
    }
    pushed?;
    if !args.verbosity.quiet {
        say(format!(
            "{} in {:.2} s",
            report::summary(&outcomes, args.dry_run),
            start.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}

impl Args {
    /// Returns the images with their destinations.
    fn images(&self) -> Result<Vec<(SpecFile<Content>, Vec<Reference>)>> {
        let files = self.outside_store.files();
        let read = |path: &String| {
            let path = Path::new(path);
            SpecFile::read_content_to_pack(path, self.store.store_of(path), files)
        };
        if let Some(to) = &self.index {
            let images = self.words.iter().map(read).collect::<Result<Vec<_>>>()?;
            return Ok(vec![(indexed(images)?, self.destinations(to)?)]);
        }
        let (to, images) = self.words.split_last().expect("clap requires a word");
        if images.is_empty() {
            let error =
                misused(format!("push needs at least one image and a destination, and got only {to}"));
            return Err(hinted(
                error,
                "add the destination, as in nixply push image.json ghcr.io/team/app:1.0",
            ));
        }
        let images = images.iter().map(read).collect::<Result<Vec<_>>>()?;
        let prefix = to.strip_suffix('/');
        if images.len() > 1 && prefix.is_none() {
            let error = misused(format!("several images cannot have the same destination {to}"));
            let hint = format!(
                "end it with a slash to add each image's name: {to}/; for one image index, pass --index {to}"
            );
            return Err(hinted(error, hint));
        }
        if images.len() > 1 && !self.also.is_empty() {
            return Err(misused("--also is for one image: push the images again to the other destination"));
        }
        let with_destinations = |file: SpecFile<Content>| {
            let name = match prefix {
                Some(prefix) => {
                    let name = reference::canonical_name(&file.name).map_err(nixply_packer::Error::from)?;
                    format!("{prefix}/{name}")
                }
                None => to.to_owned(),
            };
            let first = parse(&name).map_err(|error| self.unparsed(to, &error))?;
            Ok((file, self.destinations(&first)?))
        };
        images.into_iter().map(with_destinations).collect()
    }

    /// Returns all destinations of an image whose reference is `first`.
    fn destinations(&self, first: &Reference) -> Result<Vec<Reference>> {
        let mut all = match &self.tags[..] {
            [] => vec![first.clone()],
            tags => tags
                .iter()
                .map(|tag| first.with_tag(tag))
                .collect::<Result<_, _>>()
                .map_err(diagnosis::of_registry)?,
        };
        all.extend(self.also.iter().cloned());
        Ok(all)
    }

    /// Returns the error for a destination. A user who forgets it gives only files.
    fn unparsed(&self, to: &str, error: &str) -> anyhow::Error {
        if Path::new(to).exists() {
            let error = misused(format!("{to} is a file, and the last argument must be the destination"));
            return hinted(error, "add it, as in ghcr.io/team/app:1.0");
        }
        misused(error)
    }

    fn push(
        &self,
        client: &Client,
        file: &SpecFile<Content>,
        to: Vec<Reference>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<()> {
        let quiet = self.verbosity.quiet;
        let watch = Watch::of_layers(file.spec.layers().cloned().collect(), quiet || self.dry_run);
        let dry_run = self.dry_run;
        let pushing = Pushing {
            store: &self.store,
            cache: &self.cache,
            codec: self.compression,
            scratch: self.scratch.directory(),
            cache_to: self.cache_to.as_ref(),
            dry_run,
            explain: diagnosis::of_registry,
        };
        if let Some(cache) = self.cache.open().filter(|_| self.cache_to.is_some()) {
            // Frames have keys only with the archive hashes.
            pushing::remember_archives(file, &cache);
        }
        let mut printed = Ok(());
        let pushed = pushing.push(client, file, to, &watch, &mut |pushed| {
            match &pushed.frames {
                Some(Err(why)) => warning(format!("the frames of the layers were not stored: {why}")),
                Some(Ok(0)) => warning("the cache has no frames of the layers, so none were stored"),
                Some(Ok(segments)) if !quiet => {
                    say(format!("stored the places of the frames of {}", count(*segments, "store path")));
                }
                _ => {}
            }
            let outcome = Outcome { image: file.path.clone(), pushed };
            if printed.is_ok() {
                printed = print(if self.json { report::json(&outcome, dry_run) } else { outcome.lines() });
            }
            outcomes.push(outcome);
        });
        drop(watch);
        pushed?;
        printed
    }
}

/// Returns the index of several images, and of the images of several indexes.
fn indexed(files: Vec<SpecFile<Content>>) -> Result<SpecFile<Content>> {
    let store = files[0].store.clone();
    let (name, path) = (files[0].name.clone(), files[0].path.clone());
    let (mut images, mut names, mut annotations) = (Vec::new(), Vec::new(), BTreeMap::new());
    for file in files {
        if file.store.dir != store.dir {
            return Err(misused(format!(
                "{} is in another store than {}",
                file.path.display(),
                path.display()
            )));
        }
        let of_file = match file.spec {
            Content::Image(spec) => vec![IndexedImage { spec, annotations: BTreeMap::new() }],
            Content::Index(index) => {
                for (name, value) in index.annotations {
                    let other = annotations.insert(name.clone(), value.clone());
                    if other.is_some_and(|other| other != value) {
                        let file = file.path.display();
                        return Err(misused(format!(
                            "{file} has another value of the annotation {name} than an earlier index"
                        )));
                    }
                }
                index.images
            }
        };
        names.extend(of_file.iter().map(|_| file.path.display().to_string()));
        images.extend(of_file);
    }
    let index = IndexSpec::new(images, annotations, |at| names[at].clone())?;
    Ok(SpecFile { path, spec: Content::Index(index), store, name })
}

/// Returns the file for the summary.
fn summary_file(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.into());
    }
    let variable = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|file| !file.is_empty());
    variable.map(PathBuf::from).ok_or_else(|| {
        hinted(anyhow!("--summary: GITHUB_STEP_SUMMARY is not set"), "name a file: --summary=FILE")
    })
}
