# Languages: adds their tools to the environment's packages. For Python, also sets the variable that names its libraries.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkIf mkOption types;

  # Languages that need only a package.
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
      description = "The package for ${language}.";
    };
  };
in
{
  options.languages = lib.mapAttrs options (plain // { python = "python3"; });

  config = {
    packages = lib.concatMap (language: lib.optional language.enable language.package) (
      builtins.attrValues config.languages
    );
    # The directory with the Python packages in `packages`.
    env = mkIf config.languages.python.enable {
      PYTHONPATH = "${config.devenv.profile}/${config.languages.python.package.sitePackages}";
    };
  };
}
