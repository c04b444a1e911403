# Values as text: the part of nixpkgs' `lib.generators` that messages and documentation use.
{ lib }:
let
  inherit (builtins)
    concatStringsSep elem isAttrs isBool isFloat isInt isList isPath isString length mapAttrs replaceStrings toJSON
    ;
  inherit (lib)
    concatMapStringsSep escapeNixIdentifier functionArgs init isDerivation isFunction last mapAttrsToList splitString
    ;

  # Formats a value as a Nix expression, with placeholders for functions and derivations.
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

  # Replaces the parts of a value that are nested deeper than `depthLimit`, or fails if there are any.
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
in
{
  generators = {
    inherit toPretty withRecursion;
    toJSON = { }: toJSON;
  };
}
