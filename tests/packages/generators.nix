# Values as texts: nixpkgs' `lib.generators`, `lib.cli`, and variables of a shell.
{ lib }:
let
  inherit (builtins)
    concatLists concatStringsSep elem isAttrs isBool isFloat isInt isList isPath isString length mapAttrs replaceStrings
    toJSON
    ;
  inherit (lib)
    concatMapStringsSep escapeNixIdentifier escapeShellArg escapeShellArgs functionArgs init isDerivation isFunction
    isStringLike last mapAttrsToList splitString
    ;

  # A value as Nix would write it, as far as it can be written.
  toPretty =
    { allowPrettyValues ? false, multiline ? true, indent ? "" }:
    let
      show =
        indent: value:
        let
          open = if multiline then "\n${indent}  " else " ";
          close = if multiline then "\n${indent}" else " ";
          inner = show "${indent}  ";
          lines = splitString "\n" value;
          long = map (replaceStrings [ "\${" "''" ] [ "''\${" "'''" ]) lines;
          arguments = mapAttrsToList (name: optional: if optional then "${name}?" else name) (functionArgs value);
        in
        if isString value then
          if multiline && length lines > 1 then
            "''${open}${concatStringsSep open (init long)}${if last long == "" then close else open + last long}''"
          else
            "\"${concatStringsSep "\\n" (map (replaceStrings [ "\\" "\"" "\${" ] [ "\\\\" "\\\"" "\\\${" ]) lines)}\""
        else if value == null || isBool value || isFloat value then
          toJSON value
        else if isInt value || isPath value then
          toString value
        else if isList value then
          if value == [ ] then "[ ]" else "[${open}${concatMapStringsSep open inner value}${close}]"
        else if isFunction value then
          if arguments == [ ] then "<function>" else "<function, args: {${concatStringsSep ", " arguments}}>"
        else if allowPrettyValues && value ? __pretty && value ? val then
          value.__pretty value.val
        else if value == { } then
          "{ }"
        else if isDerivation value then
          "<derivation ${value.name or "???"}>"
        else
          "{${open}${
            concatStringsSep open (mapAttrsToList (name: value: "${escapeNixIdentifier name} = ${inner value};") value)
          }${close}}";
    in
    show indent;

  # A value whose deeper parts are not looked at.
  withRecursion =
    { depthLimit, throwOnDepthLimit ? true }:
    let
      special = [ "__functor" "__functionArgs" "__toString" "__pretty" ];
      cut =
        depth: value:
        if depthLimit == null || depth <= depthLimit then
          value
        else if throwOnDepthLimit then
          throw "Exceeded maximum eval-depth limit of ${toString depthLimit} while trying to evaluate with `generators.withRecursion'!"
        else
          "<unevaluated>";
      at =
        depth: value:
        let
          next = inner: at (depth + 1) (cut (depth + 1) inner);
        in
        if isAttrs value then
          mapAttrs (name: inner: if elem name special then inner else next inner) value
        else if isList value then
          map next value
        else
          cut (depth + 1) value;
    in
    at 0;

  mkValueStringDefault =
    { }:
    value:
    if isString value || isInt value || isFloat value || isDerivation value then
      toString value
    else if value == null || isBool value then
      toJSON value
    else
      abort "generators.mkValueStringDefault: ${
        if isList value then "lists" else if isFunction value then "functions" else "attrsets"
      } not supported: ${toPretty { } value}";

  mkKeyValueDefault =
    { mkValueString ? mkValueStringDefault { } }:
    separator: name: value:
    "${replaceStrings [ separator ] [ "\\${separator}" ] name}${separator}${mkValueString value}";

  toKeyValue =
    { mkKeyValue ? mkKeyValueDefault { } "=", listsAsDuplicateKeys ? false, indent ? "" }:
    set:
    lib.concatStrings (
      concatLists (
        mapAttrsToList (
          name: value:
          map (one: "${indent}${mkKeyValue name one}\n") (
            if listsAsDuplicateKeys && isList value then value else [ value ]
          )
        ) set
      )
    );

  # Options of a program. `toGNUCommandLine` is the older one, with each value an argument of its own.
  toGNUCommandLine =
    {
      mkOptionName ? name: if builtins.stringLength name == 1 then "-${name}" else "--${name}",
      mkBool ? name: value: if value then [ (mkOptionName name) ] else [ ],
      mkList ? name: lib.concatMap (mkOption name),
      mkOption ?
        name: value:
        if value == null then
          [ ]
        else if optionValueSeparator == null then
          [ (mkOptionName name) (mkValueStringDefault { } value) ]
        else
          [ "${mkOptionName name}${optionValueSeparator}${mkValueStringDefault { } value}" ],
      optionValueSeparator ? null,
    }:
    set:
    concatLists (
      mapAttrsToList (
        name: value:
        if isBool value then
          mkBool name value
        else if isList value then
          mkList name value
        else
          mkOption name value
      ) set
    );

  toCommandLine =
    format: set:
    let
      argument =
        name: value:
        let
          shape = format name;
          inherit (shape) option sep explicitBool;
          text = (shape.formatArg or (mkValueStringDefault { })) value;
        in
        if value == null || !explicitBool && value == false then
          [ ]
        else if !explicitBool && value == true then
          [ option ]
        else if sep == null then
          [ option text ]
        else
          [ "${option}${sep}${text}" ];
    in
    concatLists (
      mapAttrsToList (
        name: value: if isList value then lib.concatMap (argument name) value else argument name value
      ) set
    );
  toCommandLineGNU =
    {
      isLong ? name: builtins.stringLength name > 1,
      explicitBool ? false,
      formatArg ? mkValueStringDefault { },
    }:
    toCommandLine (
      name:
      {
        option = if isLong name then "--${name}" else "-${name}";
        sep = if isLong name then "=" else "";
        inherit explicitBool formatArg;
      }
    );

  toShellVar =
    name: value:
    if builtins.match "[a-zA-Z_][a-zA-Z0-9_]*" name == null then
      throw "toShellVar: ${name} is not a valid shell variable name"
    else if isAttrs value && !isStringLike value then
      "declare -A ${name}=(${
        concatStringsSep " " (mapAttrsToList (key: inner: "[${escapeShellArg key}]=${escapeShellArg inner}") value)
      })"
    else if isList value then
      "declare -a ${name}=(${escapeShellArgs value})"
    else
      "${name}=${escapeShellArg value}";
in
{
  inherit toShellVar;
  toShellVars = set: concatStringsSep "\n" (mapAttrsToList toShellVar set);
  generators = {
    inherit mkKeyValueDefault mkValueStringDefault toKeyValue toPretty withRecursion;
    toJSON = { }: toJSON;
    # JSON is YAML.
    toYAML = { }: toJSON;
  };
  cli = {
    inherit toCommandLine toCommandLineGNU toGNUCommandLine;
    toCommandLineShell = format: set: escapeShellArgs (toCommandLine format set);
    toCommandLineShellGNU = options: set: escapeShellArgs (toCommandLineGNU options set);
    toGNUCommandLineShell = options: set: escapeShellArgs (toGNUCommandLine options set);
  };
}
