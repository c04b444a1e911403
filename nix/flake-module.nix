# For flake-parts: development environments' containers as the flake's outputs `containers.SYSTEM.NAME`, which `nixply
# container` takes them from, and as packages `container-NAME`.
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
        description = "Containers that `nixply container` builds, copies and runs, as they are built.";
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
        description = "The modules of the development environment that has the containers; there are none without a module.";
      };

      config = {
        containers = lib.mkIf (config.nixply.modules != [ ]) (
          import ./containers.nix {
            inherit pkgs self;
            inherit (config.nixply) modules;
          }
        );
        # Elsewhere than on Linux there are scripts that copy, no images.
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
