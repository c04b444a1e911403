//! Nix 2.26, built from Debian trixie's source package.
//!
//! Trixie's own binary is one static program that exports no symbols, so it cannot load a plugin. This module builds the
//! same sources with shared libraries, in a root with trixie's packages, and makes the result run on this machine.
//! Meson's unity build makes that quick. It compiles several files as one, which needs a few changes of the sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use super::prefix::{Nix, Prefix};
use super::root::Root;
use crate::host::{output, say};

/// Number of this file's recipe. Raise it with each change, so that older results are rebuilt.
const RECIPE: &str = "1";

/// Build dependencies: tools, including a shell for scripts, and libraries.
const PACKAGES: [&str; 29] = [
    "g++",
    "meson",
    "ninja-build",
    "pkgconf",
    "bison",
    "flex",
    "cmake",
    "bash",
    "dash",
    "coreutils",
    "grep",
    "sed",
    "libarchive-dev",
    "libboost-container-dev",
    "libboost-context-dev",
    "libboost-coroutine-dev",
    "libboost-dev",
    "libbrotli-dev",
    "libcurl4-gnutls-dev",
    "libgc-dev",
    "libgit2-dev",
    "libreadline-dev",
    "libseccomp-dev",
    "libsodium-dev",
    "libsqlite3-dev",
    "libssl-dev",
    "libtoml11-dev",
    "nlohmann-json3-dev",
    "zlib1g-dev",
];

/// `-O1` and no debug information, because no chore measures Nix itself.
const MESON_OPTIONS: [&str; 13] = [
    "-Dunity=on",
    "-Dunity_size=8",
    "-Doptimization=1",
    "-Ddebug=false",
    "-Db_lto=false",
    "-Ddoc-gen=false",
    "-Dunit-tests=false",
    "-Dbindings=false",
    "-Dlibcmd:readline-flavor=readline",
    "-Dlibcmd:markdown=disabled",
    "-Dlibexpr:gc=enabled",
    "-Dlibutil:cpuid=disabled",
    "--localstatedir=/nix/var",
];

/// Directories in the build root.
const SOURCE: &str = "/build/source";
const BUILD: &str = "/build/meson";
const INSTALLED: &str = "/build/installed";

pub(super) fn install() -> Result<Nix> {
    let prefix = Prefix::of("2.26", RECIPE)?;
    prefix.ready().map_or_else(|| prefix.make(|work, new| fill(work, new, &prefix.path)), Ok)
}

fn fill(work: &Path, new: &Path, last: &Path) -> Result<()> {
    let archive = Archive::open(&work.join("apt"), &["deb", "deb-src"], "trixie")?;
    let source = archive.source("nix", None)?;
    let root = Root::unpack(&archive, &PACKAGES, &work.join("root"))?;
    root.make_runnable()?;
    fs::create_dir(root.inside("/build"))?;
    fs::rename(source, root.inside(SOURCE))?;

    say("building Nix 2.26 (once; four to five minutes on two cores)");
    let log = work.join("build.log");
    leave_out_c_api(&root.inside(SOURCE))?;
    repair_sources(&root.inside(SOURCE))?;
    let prefix = format!("--prefix={}", last.display());
    let meson = ["meson", "setup", BUILD, SOURCE, "--libdir=lib", &prefix];
    root.run(&[&meson[..], &MESON_OPTIONS].concat(), &log)?;
    repair_units(&root.inside(BUILD).join("src/libexpr/libnixexpr.so.p"))?;
    root.run(&["ninja", "-C", BUILD], &log)?;
    root.run(&["meson", "install", "-C", BUILD, "--destdir", INSTALLED, "--strip"], &log)?;

    say("making Nix 2.26 run on this machine");
    fs::remove_dir(new)?;
    fs::rename(root.inside(INSTALLED).join(last.strip_prefix("/")?), new)?;
    copy_used_headers(&root, &new.join("include-deps"))?;
    root.move_out(&["nix"], new, last)
}

/// Omits the C API's libraries, which neither plugins nor tests use.
fn leave_out_c_api(source: &Path) -> Result<()> {
    edit(&source.join("meson.build"), |text| {
        text.lines().filter(|line| !line.ends_with("-c')")).map(|line| format!("{line}\n")).collect()
    })
}

/// Changes sources so that the files of a library can be compiled as one.
fn repair_sources(source: &Path) -> Result<()> {
    // json-utils.hh specializes a template. The specialization must precede the instantiations in other files.
    for file in files_below(&source.join("src/libstore"), "cc")? {
        edit(&file, |text| format!("#include \"json-utils.hh\"\n{text}"))?;
    }
    // dotgraph.cc has static functions of the same names.
    edit(&source.join("src/nix-store/graphml.cc"), |text| {
        text.replace("makeEdge", "makeGraphMLEdge").replace("makeNode", "makeGraphMLNode")
    })
}

/// Moves the lexer to the last unit, because it must not follow its own header or the parser's macros in a unit.
fn repair_units(units: &Path) -> Result<()> {
    let mut units = files_below(units, "cpp")?;
    units.sort();
    let mut lexer = String::new();
    for unit in &units {
        edit(unit, |text| {
            let (moved, kept) = text
                .lines()
                .map(|line| format!("{line}\n"))
                .partition::<Vec<_>, _>(|line| line.contains("/lexer-tab.cc"));
            lexer.extend(moved);
            kept.concat()
        })?;
    }
    match units.last() {
        Some(last) if !lexer.is_empty() => edit(last, |text| text + &lexer),
        _ => bail!("no unit of libexpr includes lexer-tab.cc"),
    }
}

/// Copies the headers of boost, nlohmann and gc that this build read from its root, because a plugin must be compiled with the same
/// headers. Omits boost headers that Nix does not read, because all of boost has 180 MB.
fn copy_used_headers(root: &Root, to: &Path) -> Result<()> {
    let dependencies = root.output(&["ninja", "-C", BUILD, "-t", "deps"])?;
    let mut headers: Vec<&str> =
        dependencies.lines().map(str::trim).filter(|line| is_dependency(line)).collect();
    headers.sort_unstable();
    headers.dedup();
    for header in headers {
        let copy = to.join(Path::new(header).strip_prefix("/usr/include")?);
        fs::create_dir_all(copy.parent().expect("it has a file name"))?;
        fs::copy(root.inside(header), &copy).with_context(|| format!("cannot create {}", copy.display()))?;
    }
    // Copies all of nlohmann's headers, not only those that Nix includes: a plugin may include others, and they are small.
    output(Command::new("cp").arg("-r").arg(root.inside("/usr/include/nlohmann")).arg(to)).map(drop)
}

fn is_dependency(header: &str) -> bool {
    ["boost/", "nlohmann/", "gc/", "gc.h", "gc_cpp.h"]
        .iter()
        .any(|start| header.strip_prefix("/usr/include/").is_some_and(|header| header.starts_with(start)))
}

fn files_below(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    Ok(files)
}

fn edit(file: &Path, change: impl FnOnce(String) -> String) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::write(file, change(text)).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lexer_moves_to_the_last_unit() {
        let dir = tempfile::tempdir().unwrap();
        let unit = |number: u32| dir.path().join(format!("nixexpr-unity{number}.cpp"));
        fs::write(unit(0), "#include</b/parser-tab.cc>\n#include</b/lexer-tab.cc>\n#include</s/eval.cc>\n")
            .unwrap();
        fs::write(unit(1), "#include</s/print.cc>\n").unwrap();
        repair_units(dir.path()).unwrap();
        assert_eq!(
            fs::read_to_string(unit(0)).unwrap(),
            "#include</b/parser-tab.cc>\n#include</s/eval.cc>\n"
        );
        assert_eq!(
            fs::read_to_string(unit(1)).unwrap(),
            "#include</s/print.cc>\n#include</b/lexer-tab.cc>\n"
        );
    }
}
