# The development environment: its packages, variables and hook, and the shell built from them.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;

  internal =
    type: description:
    mkOption {
      inherit type description;
      internal = true;
    };

  # The package. If it is a Python package, also the packages that it imports, so that Python finds all of them in one directory.
  withImports = package: [ package ] ++ package.requiredPythonModules or [ ];

  profile = pkgs.buildEnv {
    name = "devenv-profile";
    paths = lib.unique (lib.concatMap withImports config.packages);
    ignoreCollisions = true;
  };

  # Tools that every Nix shell has. On PATH, they come after the packages.
  tools = [
    pkgs.coreutils
    pkgs.findutils
    pkgs.diffutils
    pkgs.gnused
    pkgs.gnugrep
    pkgs.gawk
    pkgs.gnutar
    pkgs.gzip
    pkgs.bzip2
    pkgs.xz
  ];

  # A derivation that nix-shell and `nix develop` can enter: variables, a hook, and a stdenv whose setup script sets PATH. It has no
  # compiler: apart from `tools`, the shell contains only the packages of the user's file.
  shell = derivation (
    config.env
    // {
      inherit (config) name;
      # Builds on the machine that builds containers, where shell-environment.nix records the variables.
      inherit (pkgs.stdenv.buildPlatform or pkgs.stdenv.hostPlatform) system;
      builder = "${(pkgs.buildPackages or pkgs).bashInteractive}/bin/bash";
      args = [
        "-c"
        "echo 'This derivation is a shell: it is to be entered, not built.' >&2; exit 1"
      ];
      stdenv = pkgs.writeTextFile {
        name = "devenv-stdenv";
        destination = "/setup";
        text = ''
          export PATH=${profile}/bin:${lib.makeBinPath tools}''${PATH:+:$PATH}
          export XDG_DATA_DIRS=${profile}/share''${XDG_DATA_DIRS:+:$XDG_DATA_DIRS}
        '';
      };
      shellHook = config.enterShell;
    }
  );
in
{
  options = {
    name = mkOption {
      type = types.nullOr types.str;
      default = "devenv-shell";
      description = "The project's name.";
    };
    packages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.jq ]";
      description = "Packages of the environment. Their programs are on PATH.";
    };
    env = mkOption {
      type = types.submodule { freeformType = types.lazyAttrsOf types.anything; };
      default = { };
      example = {
        PORT = 8000;
      };
      description = "Environment variables.";
    };
    enterShell = mkOption {
      type = types.lines;
      default = "";
      description = "Shell code that runs when the environment is entered. In a container, it runs at the start.";
    };
    shell = internal types.package "The environment's shell as a derivation.";
    devenv = {
      root = internal types.str "The project's directory.";
      dotfile = internal types.str "The directory for files of the environment.";
      state = internal types.str "The directory for persistent state.";
      runtime = internal types.str "The directory for sockets.";
      tmpdir = internal types.str "The directory for temporary files.";
      profile = internal types.package "All packages merged into one directory tree.";
    };
  };

  config = {
    devenv = {
      dotfile = lib.mkDefault "${lib.removeSuffix "/" config.devenv.root}/.devenv";
      state = lib.mkDefault "${config.devenv.dotfile}/state";
      tmpdir = lib.mkOptionDefault "/tmp";
      runtime = lib.mkOptionDefault "${config.devenv.tmpdir}/devenv-${
        builtins.substring 0 7 (builtins.hashString "sha256" config.devenv.dotfile)
      }";
      inherit profile;
    };
    env = {
      DEVENV_PROFILE = profile;
      DEVENV_ROOT = config.devenv.root;
      DEVENV_DOTFILE = config.devenv.dotfile;
      DEVENV_STATE = config.devenv.state;
      DEVENV_RUNTIME = config.devenv.runtime;
    };
    enterShell = lib.mkBefore ''
      # The derivation's, not the user's.
      unset NIX_BUILD_CORES builder dontAddDisableDepTrack name shellHook stdenv system
      export PS1="\[\e[0;34m\](devenv)\[\e[0m\] ''${PS1-\\s-\\v\\$ }"
      mkdir -p "$DEVENV_STATE" "$DEVENV_RUNTIME"
    '';
    inherit shell;
  };
}
