# Containers of a development environment: `containers.NAME`. A module for nixpkgs' lib.evalModules. It replaces devenv's
# containers.nix, and nixply's own evaluation imports it.
#
# It needs the options `name`, `env`, `shell` (a derivation from mkShell), `procfileScript` and `devenv` (root, dotfile,
# runtime, tmpdir), which other modules declare, and the arguments `pkgs` and `self` (the project's directory).
{
  config,
  lib,
  options,
  pkgs,
  self,
  extendModules,
  ...
}:

let
  inherit (lib) mkOption types;

  user = {
    name = "user";
    id = 1000;
    home = "/env";
  };

  # `self` is a flake, a directory, or devenv's equivalent of a flake, whose directory need not be in the store. If it is a
  # derivation, its output is used without a filter.
  projectRoot = if lib.isDerivation self then "${self}" else import ../project.nix { root = self.outPath or self; };

  # devenv's own message, word for word.
  noName =
    name:
    ''You need to set `name = "myproject";` or `containers.${name}.name = "mycontainer"; to be able to generate a container.'';
  projectName = name: if config.name == null then throw (noName name) else config.name;

  bash = "${pkgs.bashInteractive}/bin/bash";

  # Packages for the machine that builds and copies containers. `pkgs` is for the machine that runs them.
  tools = pkgs.buildPackages or pkgs;

  entrypoint = import ./containers/entrypoint.nix {
    inherit pkgs;
    enter = import ./containers/shell-environment.nix {
      inherit pkgs;
      inherit (config) shell;
    };
  };

  functions = import ../nix2container {
    inherit pkgs;
    nixply = config.nixply.package;
    inherit (config.nixply) usePlugin;
  };

  container = import ./containers/options.nix {
    inherit lib projectRoot projectName entrypoint;
    homeDir = user.home;
    build = import ./containers/image.nix {
      inherit
        lib
        pkgs
        tools
        functions
        user
        projectRoot
        noName
        ;
      inherit (config) env;
    };
  };

  # Name of the container for which a tool evaluates the project. devenv's program sets this variable; nixply itself uses
  # `containerBuilds`.
  named = builtins.getEnv "DEVENV_CONTAINER";

  # A priority that overrides definitions without a priority, and that mkForce overrides.
  beforeDefaults = lib.mkOverride (lib.modules.defaultOverridePriority - 1);
in
{
  options = {
    containers = mkOption {
      type = types.attrsOf container;
      default = { };
      description = "Containers that `nixply container` builds, copies and runs.";
    };

    container.isBuilding = mkOption {
      type = types.bool;
      default = false;
      example = lib.literalExpression "packages = [ pkgs.openssl ] ++ lib.optionals (!config.container.isBuilding) [ pkgs.git ];";
      description = "Whether this evaluation builds a container, not a shell. Set automatically.";
    };

    containerBuilds = mkOption {
      type = types.lazyAttrsOf types.raw;
      internal = true;
      readOnly = true;
      description = ''
        The containers to build. Each comes from a separate evaluation, in which `container.isBuilding` and the container's own
        `isBuilding` are true.
      '';
    };

    nixply = {
      package = mkOption {
        type = types.package;
        default = tools.callPackage ../package.nix { };
        defaultText = lib.literalExpression "pkgs.nixply";
        description = "The package of nixply. It packs images when the plugin is not loaded, and skopeo reads images through it.";
      };
      usePlugin = mkOption {
        type = types.bool;
        default = builtins ? nixplyImage;
        defaultText = lib.literalExpression "builtins ? nixplyImage";
        description = "Whether the plugin packs images, during evaluation. The images are the same either way.";
      };
    };
  };

  config = lib.mkMerge [
    {
      # For base images: `{ nix2container, ... }: { containers.web.fromImage = nix2container.pullImage { ... }; }`.
      _module.args.nix2container = lib.mkDefault functions.nix2container;

      container.isBuilding = lib.mkIf (named != "") true;

      containers.shell = {
        name = lib.mkDefault "shell";
        startupCommand = lib.mkDefault bash;
      };
      containers.processes = {
        name = lib.mkDefault "processes";
        startupCommand = lib.mkDefault config.procfileScript;
      };

      containerBuilds = lib.mapAttrs (
        name: _:
        (extendModules {
          modules = [
            {
              container.isBuilding = lib.mkForce true;
              containers.${name}.isBuilding = lib.mkForce true;
            }
          ];
        }).config.containers.${name}
      ) config.containers;
    }
    (if named == "" then { } else { containers.${named}.isBuilding = true; })
    (lib.mkIf config.container.isBuilding {
      devenv.tmpdir = beforeDefaults "/tmp";
      devenv.runtime = beforeDefaults "${config.devenv.tmpdir}/devenv";
      devenv.root = lib.mkForce user.home;
      devenv.dotfile = lib.mkOverride 49 "${user.home}/.devenv";
    })
    # `devenv container copy` runs this task.
    (lib.optionalAttrs (options ? tasks) {
      tasks."devenv:container:copy" = {
        showOutput = true;
        exec = ''
          words=$(${tools.jq}/bin/jq -r '[.copy_script, .spec, .registry, .copy_args[]] | @sh' <<< "$DEVENV_TASK_INPUT")
          eval "set -- $words"
          "$@"
        '';
      };
    })
  ];
}
