# A program of shell code that finds jq and the skopeo for nix: sources on its PATH.
{ pkgs, skopeo-nix2container }:

name: text:
pkgs.writeShellApplication {
  inherit name text;
  runtimeInputs = [
    pkgs.jq
    skopeo-nix2container
  ];
}
