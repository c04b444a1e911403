# A shell program with jq, and the skopeo that reads nix: sources, on its PATH.
{ pkgs, skopeo-nix2container }:

name: text:
pkgs.writeShellApplication {
  inherit name text;
  runtimeInputs = [
    pkgs.jq
    skopeo-nix2container
  ];
}
