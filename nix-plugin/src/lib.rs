//! The Nix plugin. Its C++ lies beside this file; `build.rs` compiles it for the Nix that it finds. The Rust side of
//! this library is only the way into it.

// The border's functions, which the C++ calls.
use nixply_ffi as _;
