# An image that a derivation packs, even if the plugin is loaded: evaluation builds nothing, and a remote builder can pack it. The
# arguments and the image are the same. `nix-build examples/images/derivation`.
{
  pkgs ? import <nixpkgs> { },
  nixply ? (import ../../.. { inherit pkgs; }).nixply,
}:
import ../../../nix/build-image.nix
  {
    inherit nixply;
    usePlugin = false;
  }
  {
    name = "derivation";
    config.Cmd = [ "${pkgs.hello}/bin/hello" ];
    maxLayers = 3;
    compression = "zstd:3";
  }
