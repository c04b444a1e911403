# The packages and functions of nixply for a package set, under the names of nix2container's default.nix:
# `(import ./. { inherit pkgs; }).nix2container.buildImage { ... }`.
{
  # nixpkgs for the machine on which the images run. If it cross-compiles, the programs that pack and copy images come from its
  # buildPackages.
  pkgs ? import (import ./nix/requirements.nix <nixpkgs>) { },
  # The program, built for the machine that builds images.
  nixply ? (pkgs.buildPackages or pkgs).callPackage ./nix/package.nix { },
  # Whether the plugin packs images, during evaluation. Otherwise derivations do.
  usePlugin ? builtins ? nixplyImage,
}:

import ./nix/nix2container { inherit pkgs nixply usePlugin; }
// {
  inherit nixply;
  # The plugin for a Nix: `nixply-plugin.override { nix = pkgs.nixVersions.nix_2_31; }`.
  nixply-plugin = pkgs.callPackage ./nix/plugin.nix { };
}
