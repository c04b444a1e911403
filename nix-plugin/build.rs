//! Compiles the plugin's C++ for one Nix. Without a Nix, compiles a stand-in that prints a warning, or fails if
//! `$NIXPLY_PLUGIN_REQUIRED` is set.
//!
//! The Nix is `$NIXPLY_NIX_PREFIX` (a directory with `include/nix`, and with `include-deps` for the boost and nlohmann headers
//! that it was built with), or the `nix-expr` package of pkg-config. The script picks the C++ standard by trial: the first that
//! compiles the headers.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SOURCES: [&str; 6] = ["arguments", "closure", "image", "builder", "progress", "register"];

/// C++ standards of the Nix versions, newest first. Nix 2.8's headers do not compile as C++20.
const STANDARDS: [&[&str]; 3] = [&["-std=c++23"], &["-std=c++20"], &["-std=c++17", "-fconcepts"]];

struct Nix {
    version: String,
    includes: Vec<PathBuf>,
}

fn main() {
    println!("cargo:rerun-if-changed=src");
    for variable in ["NIXPLY_NIX_PREFIX", "NIXPLY_PLUGIN_REQUIRED", "PKG_CONFIG_PATH", "CXX"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let found = find().and_then(|nix| dialect(&nix).map(|flags| (nix, flags)));
    match found {
        Ok((nix, flags)) => compile(&nix, flags),
        Err(why) if std::env::var_os("NIXPLY_PLUGIN_REQUIRED").is_some() => panic!("{why}"),
        Err(why) => stand_in(&why),
    }
}

fn find() -> Result<Nix, String> {
    if let Some(prefix) = std::env::var_os("NIXPLY_NIX_PREFIX").map(PathBuf::from) {
        let include = prefix.join("include");
        if !include.join("nix").is_dir() {
            return Err(format!("NIXPLY_NIX_PREFIX has no include/nix: {}", prefix.display()));
        }
        let output = Command::new(prefix.join("bin/nix")).arg("--version").output();
        let output = output.map_err(|error| format!("cannot run {}/bin/nix: {error}", prefix.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split_whitespace().last().ok_or("nix --version printed nothing")?.to_owned();
        return Ok(Nix {
            version,
            includes: vec![include.join("nix"), include, prefix.join("include-deps")],
        });
    }
    let mut config = pkg_config::Config::new();
    config.cargo_metadata(false).env_metadata(false);
    let found = config
        .probe("nix-expr")
        .map_err(|_| "no Nix with headers was found (pkg-config nix-expr)".to_owned())?;
    let mut includes = found.include_paths.clone();
    for package in ["nix-store", "nix-main", "nix-cmd", "nix-util"] {
        includes.extend(config.probe(package).map(|found| found.include_paths).unwrap_or_default());
    }
    includes.extend(found.include_paths.iter().map(|path| path.join("nix")).filter(|path| path.is_dir()));
    Ok(Nix { version: found.version, includes })
}

fn dialect(nix: &Nix) -> Result<&'static [&'static str], String> {
    let tried = |flags: &&'static [&'static str]| {
        let mut compiler = configured(nix, flags).get_compiler().to_command();
        compiler.args(["-fsyntax-only", "src/compat.hh"]).stderr(Stdio::null());
        compiler.status().is_ok_and(|status| status.success())
    };
    STANDARDS.into_iter().find(tried).ok_or_else(|| {
        format!(
            "the headers of Nix {} do not compile (are boost and nlohmann-json installed? CXX={})",
            nix.version,
            std::env::var("CXX").unwrap_or_else(|_| "c++".into())
        )
    })
}

fn configured(nix: &Nix, flags: &[&'static str]) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).warnings(false).pic(true);
    for include in ["DEP_NIXPLY_FFI_INCLUDE", "DEP_NIXPLY_FFI_BRIDGE"] {
        build.include(std::env::var_os(include).expect("nixply-ffi's build script sets it"));
    }
    for include in &nix.includes {
        build.flag("-isystem").flag(include);
    }
    for flag in flags {
        build.flag(flag);
    }
    build.flag("-Wall").flag("-Wextra").flag("-Wno-missing-field-initializers");
    build.define("NIXPLY_BUILT_FOR", &*format!("\"{}\"", nix.version));
    build.define("NIXPLY_SYSTEM", &*format!("\"{}\"", system()));
    build
}

/// Nix's name for the target system. The headers of 2.8 expect it as a macro from config.h, which 2.8 does not install.
fn system() -> String {
    let variable = |name: &str| std::env::var(name).expect("cargo sets it");
    let os = variable("CARGO_CFG_TARGET_OS");
    format!("{}-{}", variable("CARGO_CFG_TARGET_ARCH"), if os == "macos" { "darwin" } else { &os })
}

fn compile(nix: &Nix, flags: &[&'static str]) {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    // Writes the expression as a C++ string literal.
    let expression = std::fs::read_to_string("src/result.nix").expect("result.nix is in src");
    std::fs::write(out.join("result.nix.inc"), format!("R\"nix({expression})nix\"\n"))
        .expect("OUT_DIR is writable");
    let sources = SOURCES.map(|name| format!("src/{name}.cc"));
    let objects =
        configured(nix, flags).opt_level(2).include(&out).files(&sources[..5]).compile_intermediates();
    // The plugin's undefined symbols, which register.cc looks up before it calls Nix.
    let symbols = out.join("required_symbols.inc");
    std::fs::write(&symbols, required_symbols(&objects)).expect("OUT_DIR is writable");
    let last = configured(nix, flags).opt_level(2).include(&out).file(&sources[5]).compile_intermediates();
    let objects: Vec<PathBuf> = objects.into_iter().chain(last).collect();
    weaken(&objects);
    let mut archive = cc::Build::new();
    archive.cargo_metadata(false).objects(&objects).compile("nixply_plugin");
    println!("cargo:rustc-link-search=native={}", out.display());
    // The linker would drop the registration, because only the loader runs it.
    println!("cargo:rustc-link-lib=static:+whole-archive=nixply_plugin");
    println!("cargo:rustc-link-lib=dylib=stdc++");
    println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
}

/// Lists the symbols of Nix and its garbage collector that `objects` use, as C strings. The plugin looks them up at load time, so
/// that a Nix without one of them (or without all of them, a static build) prints a clear line and does not crash.
fn required_symbols(objects: &[PathBuf]) -> String {
    let listed = output("nm", ["--undefined-only", "--format=just-symbols"].iter().map(OsStr::new), objects);
    let mut symbols: Vec<&str> = listed.lines().map(str::trim).filter(|symbol| is_foreign(symbol)).collect();
    symbols.sort_unstable();
    symbols.dedup();
    let defined = output("nm", ["--defined-only", "--format=just-symbols"].iter().map(OsStr::new), objects);
    let defined: std::collections::HashSet<&str> = defined.lines().map(str::trim).collect();
    let mut text = String::new();
    for symbol in symbols.into_iter().filter(|symbol| !defined.contains(symbol)) {
        // The initialiser of a thread-local variable exists only if it has work to do.
        if symbol.starts_with("_ZTH") {
            continue;
        }
        writeln!(text, "\"{symbol}\",").expect("writing to a string");
    }
    text
}

/// Whether a symbol is in namespace nix (functions and variables, const member functions, vtables, type infos and similar), or
/// belongs to the garbage collector, which is optional in a build of Nix.
fn is_foreign(symbol: &str) -> bool {
    let kinds = ["_ZN", "_ZNK", "_ZTV", "_ZTI", "_ZTS", "_ZTT", "_ZTH", "_ZTW", "_ZThn", "_ZTv", "_ZGV"];
    let nix = kinds.iter().any(|kind| symbol.starts_with(kind)) && symbol.contains("3nix");
    // Symbols of the standard library with a Nix type as template argument are compiled into this plugin.
    (nix && !symbol.starts_with("_ZNSt") && !symbol.starts_with("_ZNKSt")) || symbol.starts_with("GC_")
}

/// Makes references to Nix weak. The loader then leaves unresolved symbols null and does not reject the plugin, so that the
/// plugin can print the reason.
fn weaken(objects: &[PathBuf]) {
    for object in objects {
        let listed =
            output("nm", ["--undefined-only", "--format=just-symbols"].iter().map(OsStr::new), &[object]);
        let file = object.with_extension("weak");
        let symbols: Vec<&str> = listed.lines().map(str::trim).filter(|symbol| is_foreign(symbol)).collect();
        if symbols.is_empty() {
            continue; // objcopy refuses an empty list
        }
        std::fs::write(&file, symbols.join("\n")).expect("OUT_DIR is writable");
        let mut option = std::ffi::OsString::from("--weaken-symbols=");
        option.push(&file);
        output("objcopy", [option.as_os_str()].into_iter(), &[object]);
    }
}

fn output<'a>(program: &str, args: impl Iterator<Item = &'a OsStr>, files: &[impl AsRef<Path>]) -> String {
    let output = Command::new(program).args(args).args(files.iter().map(AsRef::as_ref)).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program} (from binutils): {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Compiles the library without Nix, which only prints a warning when a Nix loads it.
fn stand_in(why: &str) {
    println!("cargo:warning=the Nix plugin is left out: {why}; set NIXPLY_NIX_PREFIX to an installed Nix");
    cc::Build::new()
        .cpp(true)
        .file("src/unavailable.cc")
        .link_lib_modifier("+whole-archive")
        .compile("nixply_plugin");
}
