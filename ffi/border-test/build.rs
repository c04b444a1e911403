//! Compiles the C++ side of the tests.

fn main() {
    let bridge =
        std::env::var("DEP_NIXPLY_FFI_BRIDGE").expect("nixply-ffi's build script says where its headers are");
    let include = std::env::var("DEP_NIXPLY_FFI_INCLUDE")
        .expect("nixply-ffi's build script says where its headers are");
    cxx_build::bridge("src/lib.rs")
        .file("src/driver.cc")
        .include("src")
        .include(include)
        .include(bridge)
        .std("c++17")
        .compile("nixply_border_test");
    for file in ["src/lib.rs", "src/driver.cc", "src/driver.hh"] {
        println!("cargo:rerun-if-changed={file}");
    }
}
