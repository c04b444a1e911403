{
  description = "OCI images from Nix closures, at the speed of the hardware; a drop-in for nix2container";

  # The branch that has passed NixOS' tests and is in the binary cache.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (builtins.seq (import ./nix/requirements.nix nixpkgs) nixpkgs) lib;

      # The systems that nixpkgs still supports.
      systems = lib.intersectLists [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ] (lib.systems.flakeExposed or (builtins.attrNames nixpkgs.legacyPackages));

      # A plugin for nixpkgs' default Nix, and one for each Nix version that nixpkgs has. The plugin is for Linux only.
      plugins =
        pkgs: nixply-plugin:
        let
          inherit (import ./nix/nix-versions.nix) refusal;
          versions = lib.filterAttrs (name: _: builtins.match "nix_2_[0-9]+" name != null) (pkgs.nixVersions or { });
          # nixpkgs keeps the names of removed versions as errors.
          fits = nix: (builtins.tryEval (lib.isDerivation nix && refusal nix == null)).value;
          named = {
            nixply-plugin = pkgs.nix;
          }
          // lib.mapAttrs' (name: lib.nameValuePair "nixply-plugin-${name}") versions;
        in
        lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux (
          builtins.mapAttrs (_: nix: nixply-plugin.override { inherit nix; }) (lib.filterAttrs (_: fits) named)
        );
    in
    {
      packages = lib.genAttrs systems (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          nixply = import ./. { inherit pkgs; };
        in
        {
          inherit (nixply)
            nixply
            nix2container-bin
            nix2container
            skopeo-nix2container
            ;
          default = nixply.nixply;
        }
        // plugins pkgs nixply.nixply-plugin
      );

      # Returns the containers of a devenv.nix, for a flake's output that `nixply container` reads:
      #   containers.${system} = nixply.lib.containers { inherit self pkgs; modules = [ ./devenv.nix ]; };
      lib.containers = import ./nix/containers.nix;

      # The same for flake-parts: `perSystem.nixply.modules = [ ./devenv.nix ];`.
      flakeModules.default = ./nix/flake-module.nix;
      flakeModule = ./nix/flake-module.nix;

      # Replaces devenv's own module for containers: `imports = [ inputs.nixply.devenvModules.containers ];`.
      devenvModules.containers = ./nix/devenv-module.nix;
    };
}
