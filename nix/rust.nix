# Returns the function buildRustPackage of a nixpkgs. Fails if its Rust is too old for the workspace.
{
  lib,
  rustPlatform,
  # The compiler of rustPlatform. If null, its version is unknown and not checked.
  rustc,
}:

let
  needed = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package.rust-version;
  # The first release of nixpkgs with the Rust that the workspace needs (25.05 has 1.86).
  release = "25.11";
  found = rustc.version or needed;
in
lib.throwIf (lib.versionOlder found needed)
  "nixply: compiling nixply needs Rust ${needed} or later, but this nixpkgs has Rust ${found}: use nixpkgs ${release}, the first release with it, or a later one (`inputs.nixpkgs.follows` may name an older one), or override rustPlatform and rustc"
  rustPlatform.buildRustPackage
