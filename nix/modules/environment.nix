# The development environment: its packages, variables and hook, and the shell that they make.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;

  # A package and, of Python's, those that it imports: they are found in one folder.
  withImports = package: [ package ] ++ package.requiredPythonModules or [ ];

  profile = pkgs.buildEnv {
    name = "devenv-profile";
    paths = lib.unique (lib.concatMap withImports config.packages);
    ignoreCollisions = true;
  };

  # What every shell of Nix' has, after the packages.
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

  # What nix-shell and `nix develop` ask of a derivation: variables, a hook, and a stdenv that sets up what is not a plain
  # variable. It brings no compiler: what is in the shell is what is in the file.
  shell = derivation (
    config.env
    // {
      inherit (config) name;
      # Its variables are found out where containers are built.
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
      description = "Packages whose programs are in the environment.";
    };
    env = mkOption {
      type = types.submodule { freeformType = types.lazyAttrsOf types.anything; };
      default = { };
      example = {
        PORT = 8000;
      };
      description = "Variables of the environment.";
    };
    enterShell = mkOption {
      type = types.lines;
      default = "";
      description = "Shell code that is run when the environment is entered; in a container, when it starts.";
    };
    shell = mkOption {
      type = types.package;
      internal = true;
      description = "The shell with the environment, as a derivation.";
    };
    devenv = {
      root = mkOption {
        type = types.str;
        internal = true;
        description = "The project's folder.";
      };
      dotfile = mkOption {
        type = types.str;
        internal = true;
        description = "The folder for files of the environment.";
      };
      state = mkOption {
        type = types.str;
        internal = true;
        description = "The folder for what outlives a session.";
      };
      runtime = mkOption {
        type = types.str;
        internal = true;
        description = "The folder for sockets.";
      };
      tmpdir = mkOption {
        type = types.str;
        internal = true;
        description = "The folder for temporary files.";
      };
      profile = mkOption {
        type = types.package;
        internal = true;
        description = "The packages, as one folder.";
      };
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
