# A lock file: store paths stay in the same layers from release to release, so that a release sends only changed packages. Update
# the file for each release:
#   nix-build examples/images/lock -A requestFile -o request.json
#   nixply plan request.json --lock examples/images/lock/nixply.lock.json --update
# Then build the image: `nix-build examples/images/lock`, with or without the plugin.
{
  pkgs ? import <nixpkgs> { },
  nixply ? (import ../../.. { inherit pkgs; }).nixply,
}:
import ../../../nix/build-image.nix { inherit nixply; } {
  name = "lock";
  config.Cmd = [
    "${pkgs.bash}/bin/bash"
    "-c"
    "${pkgs.hello}/bin/hello"
  ];
  maxLayers = 4;
  lock = ./nixply.lock.json;
}
