# The workspace's files that a build of Rust needs: a change of documentation or of Nix code builds nothing anew.
{ lib }:

lib.fileset.toSource {
  root = ../.;
  fileset = lib.fileset.unions [
    ../Cargo.toml
    ../Cargo.lock
    ../benches
    ../cli
    ../ffi
    ../nix-database
    ../nix-plugin
    ../packer
    ../registry
    ../tests
    ../xtask
  ];
}
