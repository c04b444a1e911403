# buildRustPackage of a nixpkgs whose Rust is new enough for the workspace; an error that says so otherwise.
{
  lib,
  rustPlatform,
  # The compiler that rustPlatform has; null where nobody knows.
  rustc,
}:

let
  needed = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package.rust-version;
  # The first release of nixpkgs with that Rust (25.05 has 1.86).
  release = "25.11";
  found = rustc.version or needed;
in
lib.throwIf (lib.versionOlder found needed)
  "nixply: compiling it takes Rust ${needed} or later, and this nixpkgs has Rust ${found}: take nixpkgs ${release}, the first release with it, or a later one (`inputs.nixpkgs.follows` may name an older one), or override rustPlatform and rustc"
  rustPlatform.buildRustPackage
