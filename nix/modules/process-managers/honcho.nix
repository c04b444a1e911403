# honcho: runs a Procfile and interleaves the output of all processes. When one process ends, it stops the others.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkIf mkOption types;
  manager = config.process.managers.honcho;

  # honcho silently skips lines that it cannot parse.
  named =
    name:
    if builtins.match "[A-Za-z0-9_-]+" name != null then
      name
    else
      throw "nixply: processes.${builtins.toJSON name}: with honcho, a process name must consist of letters, digits, '_' and '-'";

  procfile = pkgs.writeText "Procfile" (
    lib.concatStrings (lib.mapAttrsToList (name: process: "${named name}: exec ${process.script}\n") config.processes)
  );
in
{
  options.process.managers.honcho.package = mkOption {
    type = types.package;
    default = pkgs.honcho;
    defaultText = lib.literalExpression "pkgs.honcho";
    description = "The package for honcho.";
  };

  config = mkIf (config.process.manager.implementation == "honcho") {
    # In a container, standard output is a pipe. Without buffering, each line appears immediately.
    process.manager.command = "${pkgs.coreutils}/bin/env PYTHONUNBUFFERED=1 ${lib.getExe manager.package} start -f ${procfile}";
  };
}
