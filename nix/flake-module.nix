# A module for flake-parts: the containers of a development environment become the flake's outputs `containers.SYSTEM.NAME`, where
# `nixply container` finds them, and packages `container-NAME`.
{
  self,
  lib,
  flake-parts-lib,
  ...
}:

let
  inherit (lib) mkOption types;
in
{
  imports = [
    (flake-parts-lib.mkTransposedPerSystemModule {
      name = "containers";
      option = mkOption {
        type = types.lazyAttrsOf types.raw;
        default = { };
        description = "Containers that `nixply container` builds, copies and runs.";
      };
      file = ./flake-module.nix;
    })
  ];

  options.perSystem = flake-parts-lib.mkPerSystemOption (
    {
      config,
      pkgs,
      system,
      ...
    }:
    {
      options.nixply.modules = mkOption {
        type = types.listOf types.deferredModule;
        default = [ ];
        example = lib.literalExpression "[ ./devenv.nix ]";
        description = "Modules of the development environment. Without a module, there are no containers.";
      };

      config = {
        containers = lib.mkIf (config.nixply.modules != [ ]) (
          import ./containers.nix {
            inherit pkgs self;
            inherit (config.nixply) modules;
          }
        );
        # Images are for Linux. On other systems, the containers only have scripts that copy images.
        packages = lib.mkIf (lib.hasSuffix "-linux" system) (
          lib.mapAttrs' (name: container: {
            name = "container-${name}";
            value = container.derivation;
          }) config.containers
        );
      };
    }
  );
}
