//! A tree of another Debian release's packages: where its programs can be run, and what of it they need on this machine.
//!
//! The packages are unpacked, not installed: no maintainer script runs, so it takes seconds, and only running something
//! inside takes root's rights. Whatever comes out brings its libraries and their loader along.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use crate::host::{apt_install, as_root, output, say, shown};

/// Where libraries of another release lie below a prefix, apart from Nix's own.
const RUNTIME: &str = "lib/runtime";

pub(super) struct Root {
    path: PathBuf,
}

impl Root {
    /// Unpacks packages with all that they depend on.
    pub(super) fn unpack(archive: &Archive, packages: &[&str], path: &Path) -> Result<Self> {
        let files = archive.with_dependencies(packages)?;
        say(format!("unpacking {} packages", files.len()));
        for name in ["bin", "lib", "lib64", "sbin"] {
            fs::create_dir_all(path.join("usr").join(name))?;
            symlink(Path::new("usr").join(name), path.join(name))?;
        }
        let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let share = files.len().div_ceil(workers).max(1);
        std::thread::scope(|scope| {
            let unpack = |files: &[PathBuf]| files.iter().try_for_each(|file| unpack_one(file, path));
            let workers: Vec<_> =
                files.chunks(share).map(|files| scope.spawn(move || unpack(files))).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("unpacking does not panic"))
        })?;
        Ok(Self { path: path.into() })
    }

    /// The place of an absolute path of the root, seen from this machine.
    pub(super) fn inside(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    /// Adds what programs expect to find besides the packages.
    pub(super) fn make_runnable(&self) -> Result<()> {
        let null = self.inside("/dev/null");
        output(as_root("mknod").args(["-m", "666"]).arg(null).args(["c", "1", "3"])).map(drop)
    }

    /// Runs a command inside, as the user who runs this, its output going to the end of `log`.
    pub(super) fn run(&self, command: &[&str], log: &Path) -> Result<()> {
        let file = File::options().create(true).append(true).open(log)?;
        let mut chroot = self.chroot(command);
        chroot.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let status = chroot.status().with_context(|| format!("cannot start {}", shown(&chroot)))?;
        if !status.success() {
            let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(60)..].join("\n");
            bail!("{} ended with {status}; the end of what it said:\n{end}", command.join(" "));
        }
        Ok(())
    }

    /// Runs a command inside and gives its standard output.
    pub(super) fn output(&self, command: &[&str]) -> Result<String> {
        output(&mut self.chroot(command))
    }

    fn chroot(&self, command: &[&str]) -> Command {
        let mut chroot = as_root("/usr/sbin/chroot");
        if let Ok(me) = fs::metadata("/proc/self") {
            chroot.arg(format!("--userspec={}:{}", me.uid(), me.gid()));
        }
        chroot.arg(&self.path).args(["/usr/bin/env", "-i", "HOME=/build", "PATH=/usr/bin", "LC_ALL=C"]);
        // The packages' scripts would have made `cc` and `c++`.
        chroot.args(["CC=gcc", "CXX=g++"]).args(command);
        chroot
    }

    /// Makes the programs in `new`'s `bin` folder, with the libraries in its `lib` folder, run on this machine once `new`
    /// has been moved to `last`: copies the libraries of the root that they need and the root's loader, and points there.
    pub(super) fn move_out(&self, programs: &[&str], new: &Path, last: &Path) -> Result<()> {
        apt_install(&["patchelf"])?;
        let runtime = new.join(RUNTIME);
        fs::create_dir_all(&runtime)?;
        let search_path = format!("{}:{}", last.join("lib").display(), last.join(RUNTIME).display());
        for program in programs {
            let program = new.join("bin").join(program);
            let loader = self.inside(output(patchelf(&program).arg("--print-interpreter"))?.trim());
            let loader_name = loader.file_name().context("a loader has a name")?;
            let mut libraries = self.libraries(&loader, &program, &new.join("lib"))?;
            libraries.push(loader.clone());
            for library in libraries {
                let copy = runtime.join(library.file_name().expect("a library has a name"));
                fs::copy(&library, &copy).with_context(|| format!("cannot copy {}", library.display()))?;
            }
            output(patchelf(&program).arg("--set-interpreter").arg(last.join(RUNTIME).join(loader_name)))?;
            // RPATH, not RUNPATH: it holds for what the libraries themselves need, too.
            output(patchelf(&program).args(["--force-rpath", "--set-rpath", &search_path]))?;
        }
        for entry in fs::read_dir(new.join("lib"))? {
            let library = entry?.path();
            if library.is_file() {
                output(patchelf(&library).args(["--force-rpath", "--set-rpath", &search_path]))?;
            }
        }
        Ok(())
    }

    /// The root's libraries that a program needs, itself or through others.
    fn libraries(&self, loader: &Path, program: &Path, own: &Path) -> Result<Vec<PathBuf>> {
        let of_root = self.inside("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
        let mut list = Command::new(loader);
        list.arg("--library-path")
            .arg(format!("{}:{}", own.display(), of_root.display()))
            .arg("--list")
            .arg(program);
        let mut found = Vec::new();
        for (name, path) in listed(&output(&mut list)?) {
            match path {
                Some(path) if path.starts_with(&self.path) => found.push(path),
                Some(path) if path.starts_with(own) => {}
                _ => bail!("{} needs a library that is in none of the packages: {name}", program.display()),
            }
        }
        Ok(found)
    }
}

fn patchelf(file: &Path) -> Command {
    let mut command = Command::new("patchelf");
    command.arg(file);
    command
}

/// Names and places in what the loader's `--list` prints, `name => /place (address)` a line. The lines without an arrow
/// are the loader itself and what the kernel brings.
fn listed(text: &str) -> Vec<(String, Option<PathBuf>)> {
    let place =
        |rest: &str| rest.split(" (").next().filter(|place| place.starts_with('/')).map(str::to_owned);
    let arrows = text.lines().filter_map(|line| line.trim().split_once(" => "));
    arrows.map(|(name, rest)| (name.to_owned(), place(rest).map(PathBuf::from))).collect()
}

/// Unpacks a package's files. Debian's folders like `/lib` are links to those in `/usr`, and stay so.
fn unpack_one(package: &Path, into: &Path) -> Result<()> {
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut files = dpkg.spawn().context("cannot start dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "--keep-directory-symlink", "--no-same-owner", "-C"]).arg(into);
    tar.stdin(files.stdout.take().expect("it was asked for"));
    let status = tar.status().context("cannot start tar")?;
    if !files.wait()?.success() || !status.success() {
        bail!("cannot unpack {}", package.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_list_names_libraries_and_where_they_are() {
        let text = "\tlinux-vdso.so.1 (0x00007f14)\n\
                    \tlibgc.so.1 => /lib/x86_64-linux-gnu/libgc.so.1 (0x00007f15)\n\
                    \tlibblake3.so.0 => not found\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f16)\n";
        let gc = PathBuf::from("/lib/x86_64-linux-gnu/libgc.so.1");
        assert_eq!(listed(text), [("libgc.so.1".into(), Some(gc)), ("libblake3.so.0".into(), None)]);
    }
}
