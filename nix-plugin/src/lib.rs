//! The Nix plugin. Its code is the C++ in this directory, which `build.rs` compiles for the Nix that it finds. The Rust part only
//! links it into the library.

// The Rust functions that the C++ calls.
use nixply_ffi as _;
