# nix2container's functions, under the names in its flake and its default.nix.
{
  # nixpkgs, or a set with the same names (tests/packages).
  pkgs,
  # A package with bin/nixply, for the machine that builds images.
  nixply,
  # The original skopeo, for the same machine.
  skopeo ? (pkgs.buildPackages or pkgs).skopeo,
  # Whether the plugin packs images, during evaluation. Otherwise a derivation runs nixply. The images are the same.
  usePlugin ? builtins ? nixplyImage,
  # The program that derivations run, and its arguments; see build-image.nix.
  builder ? "${nixply}/bin/nixply",
  args ? [ "builder" ],
}:

let
  inherit (pkgs) lib;

  # Packages for the machine that builds images: the programs that make and copy images. `pkgs` is for the images' content.
  tools = pkgs.buildPackages or pkgs;

  # The system that builds derivations, where nixply runs, and the platform for which the images are.
  system =
    nixply.stdenv.hostPlatform.system or nixply.system
      or (pkgs.stdenv.buildPlatform or pkgs.stdenv.hostPlatform).system;
  platform = pkgs.stdenv.hostPlatform;
  defaultArch = platform.go.GOARCH or pkgs.go.GOARCH;

  builderArguments = { inherit builder args system; };
  check = import ./check.nix { inherit lib; };
  derivationName = import ./derivation-name.nix;

  skopeo-nix2container = import ./skopeo.nix { inherit nixply skopeo; pkgs = tools; };
  writeSkopeoApplication = import ./skopeo-application.nix { inherit skopeo-nix2container; pkgs = tools; };
  copyScripts = import ./copy-scripts.nix { inherit lib writeSkopeoApplication; };
  inherit (import ../derivation.nix (builderArguments // { inherit nixply; shell = tools.runtimeShell; })) pushScript;

  buildLayer = import ./build-layer.nix {
    inherit lib check;
    buildLayers = import ../build-layers.nix builderArguments;
  };

  functions = {
    inherit buildLayer;
    buildImage = import ./build-image.nix {
      inherit lib check usePlugin defaultArch copyScripts pushScript;
      buildInDerivation = import ../build-image.nix (builderArguments // { usePlugin = false; });
      buildNixDatabase = import ../nix-database.nix builderArguments;
    };
    buildIndex = import ./build-index.nix {
      inherit lib usePlugin copyScripts pushScript;
      buildInDerivation = import ../build-index.nix (builderArguments // { usePlugin = false; });
    };
    pullImage = import ./pull-image.nix {
      inherit nixply skopeo check defaultArch derivationName;
      pkgs = tools;
    };
    pullImageFromLock = import ./pull-image-from-lock.nix {
      inherit lib check defaultArch;
      inherit (functions) pullImage;
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
  # Also a package, because `nix flake show` accepts nothing else.
  nix2container = nix2container-bin // functions;
}
