# A module for option sets, in which the definition of an undeclared option is an error. The error states whether devenv has such an
# option. devenv has many options that these modules lack, so the nearest name, which Nix suggests, would often mislead.
{ lib, options, ... }:

let
  devenvs = import ./devenv-options.nix;
  guide = "docs/guides/devenv.md (https://github.com/nixply/nixply/blob/main/docs/guides/devenv.md)";

  # Returns the path of the first undeclared option in a definition. If all are declared, the path of a declared one.
  leaving =
    tree: value:
    let
      # Undeclared names come first.
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
      # For `services`, the message also names the service, as in `services.postgres`.
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
          "; they support ${builtins.concatStringsSep ", " siblings} in `${lib.showOption (prefix ++ parent)}`";
      wayOut = "use devenv itself, with nixply's module for containers: see ${guide}";
    in
    "nixply: cannot use the option `${shown}` of ${definition.file}: "
    + (
      if isDevenvs then
        "it is an option of devenv that nixply's own modules do not support${known}. For this project, ${wayOut}"
      else if near != [ ] then
        "unknown option, did you mean ${meant}?"
      else
        "nixply's own modules do not support it${known}. If it is an option of devenv, ${wayOut}"
    );
in
{
  freeformType = lib.mkOptionType {
    name = "unknown";
    description = "undeclared option";
    check = _: true;
    merge = prefix: definitions: throw (message prefix (builtins.head definitions));
  };
}
