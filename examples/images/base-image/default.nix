# A base image: the image's layers come on top of those of `fromImage`, and `inheritConfig` keeps the base's config. Here the base
# is built from the same package set. nix2container's `pullImage` pulls one from a registry instead.
# `nix build -f examples/images/base-image`, with the plugin loaded.
{
  pkgs ? import <nixpkgs> { },
}:
let
  base = builtins.nixplyImage {
    name = "base";
    copyToRoot = [
      pkgs.bash
      pkgs.coreutils
    ];
    config.Env = [ "PATH=/bin" ];
  };
in
builtins.nixplyImage {
  name = "on-a-base-image";
  fromImage = base;
  # Adds to the base's `Env`.
  inheritConfig = true;
  config = {
    Env = [ "GREETING=hello" ];
    Cmd = [
      "bash"
      "-c"
      "echo $GREETING from $(uname)"
    ];
  };
}
