# Programs of the environment that are written in its file.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;

  script =
    { name, config, ... }:
    {
      options = {
        exec = mkOption {
          type = types.oneOf [
            types.str
            types.path
          ];
          example = "echo \"Hello $1\"";
          description = "The script's code, or a file with it.";
        };
        package = mkOption {
          type = types.package;
          default = pkgs.bash;
          defaultText = lib.literalExpression "pkgs.bash";
          description = "What runs it.";
        };
        binary = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "The program of `package`, if it is not its main one.";
        };
        description = mkOption {
          type = types.str;
          default = "";
          description = "What it does.";
        };
        packages = mkOption {
          type = types.listOf types.package;
          default = [ ];
          description = "Packages whose programs it finds ahead of others.";
        };
        scriptPackage = mkOption {
          type = types.package;
          internal = true;
          description = "The program.";
        };
      };

      config.scriptPackage =
        let
          interpreter =
            if config.binary == null then
              lib.getExe config.package
            else
              "${lib.getBin config.package}/bin/${config.binary}";
          code = if builtins.isPath config.exec then config.exec else pkgs.writeText "${name}-script" config.exec;
        in
        lib.hiPrio (
          pkgs.writeShellScriptBin name ''
            ${lib.optionalString (config.packages != [ ]) ''export PATH="${lib.makeBinPath config.packages}:$PATH"''}
            exec ${interpreter} ${code} "$@"
          ''
        );
    };
in
{
  options.scripts = mkOption {
    type = types.attrsOf (
      types.submoduleWith {
        modules = [
          script
          ./unknown-options.nix
        ];
        shorthandOnlyDefinesConfig = true;
        description = "submodule";
      }
    );
    default = { };
    description = "Programs of the environment, by their names.";
  };

  config.packages = lib.mapAttrsToList (_: script: script.scriptPackage) config.scripts;
}
