# nix2container's functions, under the names that its flake and its default.nix have.
{
  # nixpkgs, or a set with the same names (tests/packages).
  pkgs,
  # A package with bin/nixply, for the machine that builds images.
  nixply,
  # The real skopeo, for the same machine.
  skopeo ? (pkgs.buildPackages or pkgs).skopeo,
  # Whether images are packed by the plugin while they are evaluated. Without it a derivation runs nixply: same result.
  usePlugin ? builtins ? nixplyImage,
  # What runs in derivations; see build-image.nix.
  builder ? "${nixply}/bin/nixply",
  args ? [ "builder" ],
}:

let
  inherit (pkgs) lib;

  # The packages of the machine that builds images, for all programs that make and copy them. `pkgs` is for their content.
  tools = pkgs.buildPackages or pkgs;

  # Where derivations are built: where the program runs. And the machine for which images are.
  system =
    nixply.stdenv.hostPlatform.system or nixply.system
      or (pkgs.stdenv.buildPlatform or pkgs.stdenv.hostPlatform).system;
  platform = pkgs.stdenv.hostPlatform;
  defaultArch = platform.go.GOARCH or pkgs.go.GOARCH;

  door = { inherit builder args system; };
  check = import ./check.nix { inherit lib; };
  derivationName = import ./derivation-name.nix;

  skopeo-nix2container = import ./skopeo.nix { inherit nixply skopeo; pkgs = tools; };
  writeSkopeoApplication = import ./skopeo-application.nix { inherit skopeo-nix2container; pkgs = tools; };
  copyScripts = import ./copy-scripts.nix { inherit lib writeSkopeoApplication; };

  buildLayer = import ./build-layer.nix {
    inherit lib check;
    buildLayers = import ../build-layers.nix door;
  };

  functions = {
    inherit buildLayer;
    buildImage = import ./build-image.nix {
      inherit lib check usePlugin defaultArch copyScripts;
      buildInDerivation = import ../build-image.nix (door // { usePlugin = false; });
      buildNixDatabase = import ../nix-database.nix door;
    };
    pullImage = import ./pull-image.nix {
      inherit nixply skopeo check defaultArch derivationName;
      pkgs = tools;
    };
    pullImageFromManifest = import ./pull-image-from-manifest.nix {
      inherit nixply skopeo check defaultArch derivationName writeSkopeoApplication;
      pkgs = tools;
    };
  };

  # `nix run` starts nix2container's command line.
  nix2container-bin = nixply // {
    meta = nixply.meta or { } // {
      mainProgram = "nix2container";
    };
  };
in
{
  inherit skopeo-nix2container nix2container-bin;
  # A package, too: `nix flake show` takes nothing else.
  nix2container = nix2container-bin // functions;
}
