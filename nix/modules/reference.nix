# The options of nixply's environments as a page of Markdown: docs/reference/options.md.
{ pkgs }:

let
  inherit (pkgs) lib;

  evaluated = import ../evaluate.nix {
    inherit pkgs;
    self = "/project";
    modules = [ ];
  };

  shown = builtins.filter (option: option.visible && !option.internal && !lib.hasPrefix "_module" option.name) (
    lib.optionAttrSetToDocList evaluated.options
  );

  # Which section an option is in: what it is about.
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
      throw "nixply: an option's default or example has no text: ${builtins.toJSON given}";
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

  # None is left out.
  unplaced = builtins.filter (option: !builtins.any (section: section.has option.name) sections) shown;
in
assert
  unplaced == [ ]
  || throw "nixply: modules/reference.nix has no section for ${toString (map (option: option.name) unplaced)}";
''
  # Options of a devenv.nix

  What `nixply container` knows of a devenv.nix, generated from the options' declarations (`cargo xtask docs`). In devenv itself its
  own modules are there besides, and of these the section on containers alone.

  ${lib.concatStringsSep "\n" (map section sections)}''
