# Languages: their tools as packages of the environment, and what makes packages of theirs be found.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkIf mkOption types;

  # Languages of which the package is all there is to it.
  plain = {
    go = "go";
    java = "jdk";
    javascript = "nodejs";
    lua = "lua";
    perl = "perl";
    php = "php";
    ruby = "ruby";
  };

  options = language: attribute: {
    enable = lib.mkEnableOption "tools for ${language}";
    package = mkOption {
      type = types.package;
      default = pkgs.${attribute};
      defaultText = lib.literalExpression "pkgs.${attribute}";
      description = "The package of ${language}.";
    };
  };
in
{
  options.languages = lib.mapAttrs options (plain // { python = "python3"; });

  config = {
    packages = lib.concatMap (language: lib.optional language.enable language.package) (
      builtins.attrValues config.languages
    );
    # Packages of Python's beside it in `packages`.
    env = mkIf config.languages.python.enable {
      PYTHONPATH = "${config.devenv.profile}/${config.languages.python.package.sitePackages}";
    };
  };
}
