//! A root directory with packages of another Debian release: runs its programs there, and copies programs out of it.
//!
//! The packages are unpacked, not installed. No maintainer script runs, so it takes seconds, and only running a program
//! inside needs root. Copied programs bring their libraries and their loader.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use crate::host::{apt_install, as_root, output, say, shown};

/// Directory of a prefix for the other release's libraries, separate from Nix's own.
const RUNTIME: &str = "lib/runtime";

pub(super) struct Root {
    path: PathBuf,
}

impl Root {
    /// Unpacks packages and their dependencies.
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

    /// Returns the path on this machine of an absolute path in the root.
    pub(super) fn inside(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    /// Creates `/dev/null`, which programs expect and no package has.
    pub(super) fn make_runnable(&self) -> Result<()> {
        let null = self.inside("/dev/null");
        output(as_root("mknod").args(["-m", "666"]).arg(null).args(["c", "1", "3"])).map(drop)
    }

    /// Runs a command inside, as the current user, and appends its output to `log`.
    pub(super) fn run(&self, command: &[&str], log: &Path) -> Result<()> {
        let file = File::options().create(true).append(true).open(log)?;
        let mut chroot = self.chroot(command);
        chroot.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let status = chroot.status().with_context(|| format!("cannot start {}", shown(&chroot)))?;
        if !status.success() {
            let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(60)..].join("\n");
            bail!("{} ended with {status}; end of its output:\n{end}", command.join(" "));
        }
        Ok(())
    }

    /// Runs a command inside and returns its standard output.
    pub(super) fn output(&self, command: &[&str]) -> Result<String> {
        output(&mut self.chroot(command))
    }

    fn chroot(&self, command: &[&str]) -> Command {
        let mut chroot = as_root("/usr/sbin/chroot");
        if let Ok(me) = fs::metadata("/proc/self") {
            chroot.arg(format!("--userspec={}:{}", me.uid(), me.gid()));
        }
        chroot.arg(&self.path).args(["/usr/bin/env", "-i", "HOME=/build", "PATH=/usr/bin", "LC_ALL=C"]);
        // The packages' maintainer scripts would create `cc` and `c++`.
        chroot.args(["CC=gcc", "CXX=g++"]).args(command);
        chroot
    }

    /// Makes the programs in `new/bin`, with the libraries in `new/lib`, work on this machine after `new` has been moved to
    /// `last`: copies the root's loader and the libraries that they need, and sets their paths.
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
            // RPATH, unlike RUNPATH, also applies to the libraries' own dependencies.
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

    /// Returns the root's libraries that a program needs, directly or indirectly.
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
                _ => bail!("{} needs a library that no package has: {name}", program.display()),
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

/// Parses the output of the loader's `--list`, lines such as `name => /place (address)`. Lines without an arrow are the
/// loader itself and the kernel's library.
fn listed(text: &str) -> Vec<(String, Option<PathBuf>)> {
    let place =
        |rest: &str| rest.split(" (").next().filter(|place| place.starts_with('/')).map(str::to_owned);
    let arrows = text.lines().filter_map(|line| line.trim().split_once(" => "));
    arrows.map(|(name, rest)| (name.to_owned(), place(rest).map(PathBuf::from))).collect()
}

/// Unpacks a package's files. Keeps Debian's links, such as `/lib`, to directories in `/usr`.
fn unpack_one(package: &Path, into: &Path) -> Result<()> {
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut files = dpkg.spawn().context("cannot start dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "--keep-directory-symlink", "--no-same-owner", "-C"]).arg(into);
    tar.stdin(files.stdout.take().expect("it is piped"));
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
    fn loader_list_has_libraries_and_their_paths() {
        let text = "\tlinux-vdso.so.1 (0x00007f14)\n\
                    \tlibgc.so.1 => /lib/x86_64-linux-gnu/libgc.so.1 (0x00007f15)\n\
                    \tlibblake3.so.0 => not found\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f16)\n";
        let gc = PathBuf::from("/lib/x86_64-linux-gnu/libgc.so.1");
        assert_eq!(listed(text), [("libgc.so.1".into(), Some(gc)), ("libblake3.so.0".into(), None)]);
    }
}
