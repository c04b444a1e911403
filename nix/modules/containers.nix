# Containers of a development environment: `containers.NAME`. A module for nixpkgs' lib.evalModules, which takes the place of
# devenv's containers.nix and is part of nixply's own evaluation.
#
# Of the other modules it takes `name`, `env` and `shell` (what mkShell gives), `procfileScript`, and `devenv` (root, dotfile,
# runtime, tmpdir); of the evaluation `pkgs` and `self`, the project's folder.
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

  # A flake, or what devenv calls so: its folder need not be in the store. What a build makes is as it was made.
  projectRoot = if lib.isDerivation self then "${self}" else import ../project.nix { root = self.outPath or self; };

  noName =
    name:
    ''You need to set `name = "myproject";` or `containers.${name}.name = "mycontainer"; to be able to generate a container.'';
  projectName = name: if config.name == null then throw (noName name) else config.name;

  bash = "${pkgs.bashInteractive}/bin/bash";

  # The packages of the machine that builds and copies containers; `pkgs` is for the one on which they run.
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

  # The tool names the container that it builds, where it has no other way to.
  named = builtins.getEnv "DEVENV_CONTAINER";

  # Stronger than a default, weaker than what anybody sets.
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
      description = "Whether it is a container that is being built, not a shell that is entered. Set by the tool.";
    };

    containerBuilds = mkOption {
      type = types.lazyAttrsOf types.raw;
      internal = true;
      readOnly = true;
      description = ''
        Each container as it is built: in an evaluation of its own, in which `container.isBuilding` and its own `isBuilding` are true.
      '';
    };

    nixply = {
      package = mkOption {
        type = types.package;
        default = tools.callPackage ../package.nix { };
        defaultText = lib.literalExpression "pkgs.nixply";
        description = "The program that packs images where the plugin is not loaded, and that skopeo reads them through.";
      };
      usePlugin = mkOption {
        type = types.bool;
        default = builtins ? nixplyImage;
        defaultText = lib.literalExpression "builtins ? nixplyImage";
        description = "Whether images are packed by the plugin, while they are evaluated. The image is the same.";
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
    # What `devenv container copy` asks devenv's modules for.
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
