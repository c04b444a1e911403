# process-compose: supports dependencies, health checks and restarts of processes.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkIf mkOption types;
  manager = config.process.managers.process-compose;

  # YAML is a superset of JSON.
  file = pkgs.writeText "process-compose.yaml" (
    builtins.toJSON (
      {
        version = "0.5";
        is_strict = true;
        processes = lib.mapAttrs (_: process: { command = "exec ${process.script}"; } // process.process-compose) config.processes;
      }
      // manager.settings
    )
  );
in
{
  options.process.managers.process-compose = {
    package = mkOption {
      type = types.package;
      default =
        pkgs.process-compose
          or (throw "nixply: this nixpkgs has no package process-compose; set process.managers.process-compose.package");
      defaultText = lib.literalExpression "pkgs.process-compose";
      description = "The package for process-compose.";
    };
    settings = mkOption {
      type = types.attrsOf types.anything;
      default = { };
      description = "Settings that are merged into process-compose's configuration file, which otherwise contains only the processes.";
    };
  };

  config = mkIf (config.process.manager.implementation == "process-compose") {
    # The terminal interface needs a terminal, and no client uses the HTTP server in a container.
    process.manager.command = "${lib.getExe manager.package} --tui=false --no-server -f ${file} up";
  };
}
