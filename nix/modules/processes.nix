# Processes of the environment, and `procfileScript`, a script that runs all of them.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;
  manager = config.process.manager;

  process = {
    options = {
      exec = mkOption {
        type = types.str;
        example = "python -m http.server";
        description = "Shell code that runs the process.";
      };
      env = mkOption {
        type = types.attrsOf types.str;
        default = { };
        description = "Environment variables for this process.";
      };
      cwd = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "The process's working directory. If null, the directory in which the processes are started.";
      };
      process-compose = mkOption {
        type = types.attrsOf types.anything;
        default = { };
        example = {
          availability.restart = "on_failure";
        };
        description = "Further settings of this process for process-compose, if that is the process manager.";
      };
      script = mkOption {
        type = types.package;
        internal = true;
        description = "The process as a script.";
      };
    };
  };

  withScript =
    { name, config, ... }:
    {
      imports = [ process ];
      config.script = pkgs.writeShellScript name ''
        ${lib.concatStringsSep "\n" (
          lib.mapAttrsToList (variable: value: "export ${variable}=${lib.escapeShellArg value}") config.env
        )}
        ${lib.optionalString (config.cwd != null) "cd ${lib.escapeShellArg config.cwd} || exit"}
        ${config.exec}
      '';
    };

  # Whether there are no hooks. Then the script only executes the manager.
  bare = manager.before == "" && manager.after == "";
in
{
  imports = [
    ./process-managers/honcho.nix
    ./process-managers/process-compose.nix
  ];

  options = {
    processes = mkOption {
      type = types.attrsOf (
        types.submoduleWith {
          modules = [
            withScript
            ./unknown-options.nix
          ];
          shorthandOnlyDefinesConfig = true;
          description = "submodule";
        }
      );
      default = { };
      description = "Processes by name. The container `processes` runs all of them.";
    };

    process.manager = {
      implementation = mkOption {
        type = types.enum [
          "honcho"
          "process-compose"
        ];
        default = "honcho";
        description = "The program that runs the processes.";
      };
      before = mkOption {
        type = types.lines;
        default = "";
        description = "Shell code that runs before the processes start.";
      };
      after = mkOption {
        type = types.lines;
        default = "";
        description = "Shell code that runs after all processes have ended.";
      };
      command = mkOption {
        type = types.str;
        internal = true;
        description = "The process manager's command line.";
      };
    };

    procfileScript = mkOption {
      type = types.package;
      internal = true;
      description = "The script that runs all processes.";
    };
  };

  config.procfileScript = pkgs.writeShellScript "processes" (
    if config.processes == { } then
      ""
    else if bare then
      "exec ${manager.command}"
    else
      ''
        manager=
        finish() {
          trap : INT TERM
          ${manager.after}
          exit "$code"
        }
        # A signal before the manager has started skips the rest of the first hook.
        stop() {
          if [ -n "$manager" ]; then
            kill -TERM "$manager"
          else
            code=$1
            finish
          fi
        }
        trap 'stop 130' INT
        trap 'stop 143' TERM
        ${manager.before}
        ${manager.command} &
        manager=$!
        # A signal ends the first wait, not the manager.
        wait "$manager"
        code=$?
        while kill -0 "$manager" 2> /dev/null; do
          wait "$manager"
          code=$?
        done
        finish
      ''
  );
}
