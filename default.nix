# nixply's packages and functions for a package set, under the names that nix2container's default.nix has:
# `(import ./. { inherit pkgs; }).nix2container.buildImage { ... }`.
{
  # nixpkgs for the machine that images are for. Where it is a cross compiling one, what packs and copies them is of its
  # buildPackages.
  pkgs ? import (import ./nix/requirements.nix <nixpkgs>) { },
  # The program, built for the machine that builds images.
  nixply ? (pkgs.buildPackages or pkgs).callPackage ./nix/package.nix { },
  # Whether images are packed by the plugin while they are evaluated; see nix/nix2container.
  usePlugin ? builtins ? nixplyImage,
}:

import ./nix/nix2container { inherit pkgs nixply usePlugin; }
// {
  inherit nixply;
  # The plugin for a Nix: `nixply-plugin.override { nix = pkgs.nixVersions.nix_2_31; }`.
  nixply-plugin = pkgs.callPackage ./nix/plugin.nix { };
}
