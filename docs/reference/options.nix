# Generates options.md: the options of nixply's environments as Markdown.
{ pkgs }:

let
  inherit (pkgs) lib;

  evaluated = import ../../nix/evaluate.nix {
    inherit pkgs;
    self = "/project";
    modules = [ ];
  };

  shown = builtins.filter (option: option.visible && !option.internal && !lib.hasPrefix "_module" option.name) (
    lib.optionAttrSetToDocList evaluated.options
  );

  # The sections of the page. Each option is in the section whose `has` accepts its name.
  sections = [
    {
      title = "Containers";
      has = name: lib.hasPrefix "container" name;
    }
    {
      title = "The environment";
      has =
        name:
        builtins.elem (builtins.head (lib.splitString "." name)) [
          "enterShell"
          "env"
          "languages"
          "name"
          "packages"
          "scripts"
        ];
    }
    {
      title = "Processes";
      has = name: lib.hasPrefix "process" name;
    }
    {
      title = "nixply itself";
      has = name: lib.hasPrefix "nixply" name;
    }
  ];

  value =
    given:
    if given ? _type then
      given.text
    else
      throw "nixply: docs/reference/options.nix: the default or example of an option has no text: ${builtins.toJSON given}";
  code = text: if lib.hasInfix "\n" text then "\n\n```nix\n${lib.removeSuffix "\n" text}\n```" else " `${text}`";

  entry =
    option:
    lib.concatStringsSep "\n" (
      [
        "### ${builtins.replaceStrings [ "<" ">" ] [ "\\<" "\\>" ] option.name}"
        ""
        (lib.removeSuffix "\n" (option.description.text or option.description))
        ""
        "- type: ${option.type}"
      ]
      ++ lib.optional (option ? default) "- default:${code (value option.default)}"
      ++ lib.optional (option ? example) "- example:${code (value option.example)}"
    );

  section = { title, has }: ''
    ## ${title}

    ${lib.concatStringsSep "\n\n" (map entry (builtins.filter (option: has option.name) shown))}
  '';

  # Every option must be in a section.
  unplaced = builtins.filter (option: !builtins.any (section: section.has option.name) sections) shown;
in
assert
  unplaced == [ ]
  || throw "nixply: docs/reference/options.nix has no section for ${toString (map (option: option.name) unplaced)}";
''
  # Options of a devenv.nix

  The options that `nixply container` reads from a `devenv.nix`. `cargo xtask docs` generates this page from the options' declarations.
  In devenv, nixply's module provides only the sections "Containers" and "nixply itself"; devenv's modules declare the other options.

  ${lib.concatStringsSep "\n" (map section sections)}''
