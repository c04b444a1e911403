{
  description = "OCI images from Nix closures, at the speed of the hardware; a drop-in for nix2container";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];

      # A plugin for each Nix that nixpkgs supports, and one for its default.
      plugins =
        pkgs: nixply-plugin:
        let
          versions = lib.filterAttrs (
            name: _: builtins.match "nix_2_[0-9]+" name != null && lib.versionAtLeast name "nix_2_24"
          ) (pkgs.nixVersions or { });
          works = _: nix: (builtins.tryEval (lib.isDerivation nix)).value;
        in
        lib.mapAttrs' (
          name: nix: lib.nameValuePair "nixply-plugin-${name}" (nixply-plugin.override { inherit nix; })
        ) (lib.filterAttrs works versions);
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
            nixply-plugin
            nix2container-bin
            nix2container
            skopeo-nix2container
            ;
          default = nixply.nixply;
        }
        // plugins pkgs nixply.nixply-plugin
      );

      # A flake's `containers.${system}`, for `nixply container`:
      #   containers.${system} = nixply.lib.containers { inherit self pkgs; modules = [ ./devenv.nix ]; };
      lib.containers = import ./nix/containers.nix;

      # The same for flake-parts: `perSystem.nixply.modules = [ ./devenv.nix ];`.
      flakeModules.default = ./nix/flake-module.nix;
      flakeModule = ./nix/flake-module.nix;

      # In devenv, in place of its own: `imports = [ inputs.nixply.devenvModules.containers ];`.
      devenvModules.containers = ./nix/devenv-module.nix;
    };
}
