# A module for sets of options: a definition of any other is an error that says whose option it may be. devenv has many that these
# modules lack, and the name nearest to one of them here means something else.
{ lib, options, ... }:

let
  devenvs = import ./devenv-options.nix;
  guide = "docs/guides/devenv.md (https://github.com/nixply/nixply/blob/main/docs/guides/devenv.md)";

  # Where a definition leaves the options that there are: the names up to there.
  leaving =
    tree: value:
    let
      # Names that are no options come first.
      names = builtins.filter (name: !(tree ? ${name})) (builtins.attrNames value);
      name = builtins.head (names ++ builtins.attrNames value);
      inner = value.${name};
    in
    if !builtins.isAttrs value || value == { } || lib.isOption tree then
      [ ]
    else if tree ? ${name} then
      [ name ] ++ leaving tree.${name} inner
    else
      [ name ];

  message =
    prefix: definition:
    let
      path = leaving options definition.value;
      # A service's own name says more than `services`.
      inner = lib.attrByPath path null definition.value;
      detail =
        if path == [ "services" ] && builtins.isAttrs inner && !(inner ? _type) && inner != { } then
          [ (builtins.head (builtins.attrNames inner)) ]
        else
          [ ];
      shown = lib.showOption (prefix ++ path ++ detail);

      parent = lib.init path;
      name = lib.last path;
      tree = lib.attrByPath parent { } options;
      siblings = builtins.filter (name: name != "_module" && !(tree.${name}.internal or false)) (builtins.attrNames tree);
      set = builtins.concatStringsSep "." (if builtins.length prefix == 2 then [ (builtins.head prefix) "*" ] ++ parent else prefix ++ parent);
      isDevenvs = builtins.elem name (devenvs.${set} or [ ]) || builtins.length path > 2 && builtins.head path == "languages";
      near = builtins.filter (other: lib.strings.levenshtein name other <= 2) siblings;
      meant = builtins.concatStringsSep " or " (map (other: "`${lib.showOption (prefix ++ parent ++ [ other ])}`") near);
      known =
        if parent == [ ] && prefix == [ ] then
          ""
        else
          "; of `${lib.showOption (prefix ++ parent)}` they have ${builtins.concatStringsSep ", " siblings}";
      wayOut = "use devenv's own program, with nixply's module for the containers: ${guide} shows how";
    in
    "nixply: cannot use the option `${shown}` of ${definition.file}: "
    + (
      if isDevenvs then
        "it is devenv's, and nixply's own modules do not have it${known}. For such a project, ${wayOut}"
      else if near != [ ] then
        "there is no such option: did you mean ${meant}?"
      else
        "nixply's own modules do not have it${known}. If it is devenv's, ${wayOut}"
    );
in
{
  freeformType = lib.mkOptionType {
    name = "unknown";
    description = "option that is not here";
    check = _: true;
    merge = prefix: definitions: throw (message prefix (builtins.head definitions));
  };
}
