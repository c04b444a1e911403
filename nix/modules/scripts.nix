# Scripts of the environment: programs whose code is in the user's file.
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
          description = "The script's code, or a file that contains it.";
        };
        package = mkOption {
          type = types.package;
          default = pkgs.bash;
          defaultText = lib.literalExpression "pkgs.bash";
          description = "The package of the interpreter.";
        };
        binary = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "The interpreter's program name in `package`. If null, the package's main program.";
        };
        description = mkOption {
          type = types.str;
          default = "";
          description = "A description of the script.";
        };
        packages = mkOption {
          type = types.listOf types.package;
          default = [ ];
          description = "Packages whose programs come first on the script's PATH.";
        };
        scriptPackage = mkOption {
          type = types.package;
          internal = true;
          description = "The script as a package.";
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
    description = "Scripts of the environment by name. Each becomes a program on PATH.";
  };

  config.packages = lib.mapAttrsToList (_: script: script.scriptPackage) config.scripts;
}
