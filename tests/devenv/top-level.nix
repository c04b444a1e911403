# Options with devenv's names and types, and a shell like that of mkShell. The shell's stdenv defines functions, arrays and read-only
# variables.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;
  text = mkOption { type = types.str; };

  stdenv = pkgs.writeTextFile {
    name = "stdenv";
    destination = "/setup";
    text = ''
      set -eu -o pipefail
      shopt -s inherit_errexit
      if [ -e .attrs.sh ] || [ -n "''${NIX_ATTRS_JSON_FILE-}" ]; then
        for output in "''${!outputs[@]}"; do export "$output=''${outputs[$output]}"; done
        for variable in "''${!env[@]}"; do export "$variable=''${env[$variable]}"; done
      fi
      finish() { local code=$?; return "$code"; }
      trap finish EXIT
      words=(one "two words" $'three\nlines')
      declare -A numbers=([one]=1 ["two words"]=2)
      readonly FIXED=fixed
      greet() {
        cat <<EOF
      hello $1 ''${numbers[$1]}
      EOF
      }
      export PATH=${pkgs.coreutils}/bin
    '';
  };
in
{
  imports = [ ./containers.nix ];

  options = {
    name = mkOption {
      type = types.nullOr types.str;
      default = "devenv-shell";
    };
    env = mkOption {
      type = types.submodule { freeformType = types.lazyAttrsOf types.anything; };
      default = { };
    };
    shell = mkOption { type = types.package; };
    structuredAttrs = mkOption {
      type = types.bool;
      default = false;
    };
    procfileScript = mkOption { type = types.package; };
    tasks = mkOption { type = types.attrsOf types.anything; };
    devenv = lib.genAttrs [
      "root"
      "dotfile"
      "state"
      "runtime"
      "tmpdir"
    ] (_: text);
  };

  config = {
    devenv = {
      tmpdir = lib.mkDefault "/tmp";
      runtime = lib.mkDefault "/run/user/1000/devenv-0123456";
      dotfile = lib.mkDefault "${config.devenv.root}/.devenv";
      state = lib.mkDefault "${config.devenv.dotfile}/state";
    };
    env = {
      DEVENV_ROOT = config.devenv.root;
      DEVENV_DOTFILE = config.devenv.dotfile;
      DEVENV_STATE = config.devenv.state;
      DEVENV_RUNTIME = config.devenv.runtime;
      NOTHING = null;
    };
    procfileScript = pkgs.writeShellScript "devenv-up" "echo processes";
    shell = derivation (
      {
        inherit (config) name;
        inherit (pkgs) system;
        inherit stdenv;
        builder = "${pkgs.bash}/bin/bash";
        args = [
          "-c"
          "exit 1"
        ];
        shellHook = ''export GREETING="$(greet "''${words[1]}")"'';
      }
      // (
        if config.structuredAttrs then
          {
            __structuredAttrs = true;
            env = lib.mapAttrs (_: toString) config.env;
          }
        else
          config.env
      )
    );
  };
}
