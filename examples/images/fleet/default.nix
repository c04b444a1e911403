# Several images that share layers: the layers with the interpreter are the same in both, so a registry stores them once.
# `nix-build examples/images/fleet`, with or without the plugin.
{
  pkgs ? import <nixpkgs> { },
  nixply ? (import ../../.. { inherit pkgs; }).nixply,
}:
let
  image = program: {
    config.Cmd = [
      "${pkgs.python3}/bin/python3"
      program
    ];
    maxLayers = 6;
  };
in
# Each image is named after its attribute.
import ../../../nix/build-images.nix { inherit nixply; } {
  web = image (pkgs.writeText "web.py" "import http.server as server; server.test()");
  worker = image (pkgs.writeText "worker.py" "print('working')");
}
