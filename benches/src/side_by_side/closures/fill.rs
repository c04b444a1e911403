//! Creates store paths and registers them in Nix's database.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use xtask::host::{output, say};
use xtask::packages::apt;

use super::debian::Graph;
use super::fresh::Code;
use super::plan::{Origin, Planned};
use super::tree::{change_largest_file, largest_file, link_tree, make_canonical, remove_tree};
use super::{APP_BYTES, Closures, Extra, Info};

impl Closures {
    /// Creates and registers the missing store paths.
    pub(super) fn fill(&mut self, graph: &Graph, planned: &[Planned<'_>]) -> Result<()> {
        let missing: Vec<&Planned<'_>> =
            planned.iter().filter(|planned| !self.known.contains_key(&planned.path)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let packages: Vec<&str> = missing
            .iter()
            .filter_map(|planned| if let Origin::Package(name) = planned.origin { Some(name) } else { None })
            .collect();
        let debs = tempfile::Builder::new().prefix("debs-").tempdir_in(&self.store.root)?;
        if !packages.is_empty() {
            let bytes: u64 = packages.iter().map(|name| graph.packages[*name].file.size).sum();
            say(format!("downloading {} Debian packages, {} MB", packages.len(), bytes.div_ceil(1_000_000)));
            let named = packages.iter().map(|name| (*name, graph.packages[*name].version.as_str()));
            apt::download_to(debs.path(), named).with_context(|| {
                format!(
                    "if Debian has newer versions, delete {} to use them",
                    self.store.root.join("packages.json").display()
                )
            })?;
        }
        say(format!("creating {} store paths in {}", missing.len(), self.store_dir().display()));
        // An app's bytes come from the files of a package, so the packages are created first.
        let (apps, others): (Vec<&Planned<'_>>, Vec<_>) =
            missing.into_iter().partition(|planned| matches!(planned.origin, Origin::App(_)));
        for group in [others, apps] {
            let made = group
                .par_iter()
                .map(|planned| self.make_path(graph, planned, debs.path()))
                .collect::<Result<Vec<_>>>()?;
            self.register(&group, &made)?;
            self.ask_nix()?;
        }
        Ok(())
    }

    /// Creates one store path; returns its `narHash` in hex and its `narSize`.
    fn make_path(&self, graph: &Graph, planned: &Planned<'_>, debs: &Path) -> Result<(String, u64)> {
        let path = Path::new(&planned.path);
        remove_tree(path)?;
        match &planned.origin {
            Origin::Package(name) => {
                let node = &graph.packages[*name];
                let deb = debs.join(apt::downloaded_as(name, &node.version, &node.architecture));
                node.file.check(&deb)?;
                output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(path))?;
                fs::remove_file(&deb)?;
            }
            Origin::App(number) => {
                fs::create_dir_all(path.join("bin"))?;
                fs::write(path.join("bin/app"), self.code()?.bytes(u64::from(*number), APP_BYTES))?;
                fs::set_permissions(path.join("bin/app"), fs::Permissions::from_mode(0o755))?;
            }
            Origin::Linked(from) => {
                link_tree(Path::new(from), path)?;
                // The files and modes are the same, so the archive is the same.
                let former = &self.known[from];
                return Ok((former.nar_hash.clone(), former.nar_size));
            }
            Origin::Changed(from) => {
                link_tree(Path::new(from), path)?;
                change_largest_file(path, &planned.path)?;
            }
        }
        make_canonical(path)?;
        self.archive(path)
    }

    /// Returns the hash of a path's archive in hex, and the archive's size.
    fn archive(&self, path: &Path) -> Result<(String, u64)> {
        let mut dump = self.store.command("nix-store", "");
        let mut child =
            dump.arg("--dump").arg(path).stdout(Stdio::piped()).spawn().context("cannot start nix-store")?;
        let mut archive = child.stdout.take().expect("it is piped");
        let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
        loop {
            let read = archive.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            size += read as u64;
        }
        ensure!(child.wait()?.success(), "nix-store --dump {} failed", path.display());
        Ok((hex::encode(hasher.finalize()), size))
    }

    /// Registers paths as valid.
    fn register(&self, planned: &[&Planned<'_>], made: &[(String, u64)]) -> Result<()> {
        let mut text = String::new();
        for (planned, (hash, size)) in planned.iter().zip(made) {
            // Path, hash, size, deriver, references: the format of `nix-store --dump-db`.
            let references: String = planned.references.iter().map(|path| format!("{path}\n")).collect();
            text +=
                &format!("{}\n{hash}\n{size}\n\n{}\n{references}", planned.path, planned.references.len());
        }
        if text.is_empty() {
            return Ok(());
        }
        let mut load = self.store.command("nix-store", "");
        let mut child =
            load.arg("--load-db").stdin(Stdio::piped()).spawn().context("cannot start nix-store")?;
        child.stdin.take().expect("it is piped").write_all(text.as_bytes())?;
        ensure!(child.wait()?.success(), "nix-store --load-db failed");
        Ok(())
    }

    /// Reads the entries of Nix's database.
    pub(super) fn ask_nix(&mut self) -> Result<()> {
        let mut ask = self.store.command("nix", "");
        let text = output(ask.args(["path-info", "--all", "--json"]))?;
        let infos: Vec<Info> = serde_json::from_str(&text).context("nix path-info --json")?;
        self.known = infos
            .into_iter()
            .map(|mut info| {
                info.references.sort();
                (info.path.clone(), info)
            })
            .collect();
        Ok(())
    }

    /// Creates four store paths without references or referrers, of `bytes` bytes in total.
    pub(crate) fn make_extra(&self, seed: u64, bytes: usize) -> Result<Extra> {
        let code = self.code()?;
        let make = |number: u64| {
            let path = self.path(&format!("data-{number}"), &format!("{seed} {bytes}"), &[]);
            let directory = Path::new(&path);
            remove_tree(directory)?;
            fs::create_dir_all(directory)?;
            // The seeds differ from those of apps and of other extra paths.
            fs::write(directory.join("data"), code.bytes(((seed + 1) << 20) + number, bytes / 4))?;
            make_canonical(directory)?;
            let (hash, nar_size) = self.archive(directory)?;
            Ok(Info { path, nar_hash: format!("sha256:{hash}"), nar_size, references: Vec::new() })
        };
        (0..4).into_par_iter().map(make).collect::<Result<_>>().map(Extra)
    }

    /// Reads machine code from the packages, as a source of fresh files.
    fn code(&self) -> Result<Code> {
        // Every closure has the compiler.
        let start = format!("{}/", self.store_dir().display());
        let is_compiler = |path: &&String| {
            path.strip_prefix(&start)
                .and_then(|name| name.get(33..))
                .is_some_and(|name| name.starts_with("cpp-"))
        };
        let path =
            self.known.keys().find(|path| is_compiler(path) && self.known[*path].nar_size > APP_BYTES as u64);
        let path = path.context("the store has no compiler, whose bytes fill the fresh files")?;
        let file = largest_file(Path::new(path))?;
        Ok(Code(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?))
    }
}
