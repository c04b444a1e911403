# honcho: a Procfile, all processes' output side by side; when one ends, so do the others.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkIf mkOption types;
  manager = config.process.managers.honcho;

  # honcho passes over lines that it cannot read.
  named =
    name:
    if builtins.match "[A-Za-z0-9_-]+" name != null then
      name
    else
      throw "nixply: processes.${builtins.toJSON name}: honcho takes names of letters, digits, '_' and '-'";

  procfile = pkgs.writeText "Procfile" (
    lib.concatStrings (lib.mapAttrsToList (name: process: "${named name}: exec ${process.script}\n") config.processes)
  );
in
{
  options.process.managers.honcho.package = mkOption {
    type = types.package;
    default = pkgs.honcho;
    defaultText = lib.literalExpression "pkgs.honcho";
    description = "The package of honcho.";
  };

  config = mkIf (config.process.manager.implementation == "honcho") {
    # Its standard output is a pipe in a container: lines are to come when they are written.
    process.manager.command = "${pkgs.coreutils}/bin/env PYTHONUNBUFFERED=1 ${lib.getExe manager.package} start -f ${procfile}";
  };
}
