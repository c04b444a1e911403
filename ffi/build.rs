//! Compiles cxx's half of the border and tells dependents where the headers are.

use std::path::Path;

fn main() {
    let include = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("include");
    cxx_build::CFG.exported_header_dirs.push(&include);
    cxx_build::bridge("src/bridge.rs").std("c++17").compile("nixply_ffi_bridge");
    println!("cargo:rerun-if-changed=src/bridge.rs");
    println!("cargo:rerun-if-changed=include");
    // For C++ that is compiled without cxx_build: our headers, and those that cxx made.
    let made = Path::new(&std::env::var("OUT_DIR").expect("cargo sets it")).join("cxxbridge/include");
    println!("cargo:include={}", include.display());
    println!("cargo:bridge={}", made.display());
}
