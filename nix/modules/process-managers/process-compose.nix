# process-compose: dependencies, health checks and restarts of processes.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkIf mkOption types;
  manager = config.process.managers.process-compose;

  # JSON is YAML, too.
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
          or (throw "nixply: this nixpkgs has no process-compose: set process.managers.process-compose.package");
      defaultText = lib.literalExpression "pkgs.process-compose";
      description = "The package of process-compose.";
    };
    settings = mkOption {
      type = types.attrsOf types.anything;
      default = { };
      description = "What its file says besides the processes.";
    };
  };

  config = mkIf (config.process.manager.implementation == "process-compose") {
    # Its screen needs a terminal, and its server is nobody's in a container.
    process.manager.command = "${lib.getExe manager.package} --tui=false --no-server -f ${file} up";
  };
}
