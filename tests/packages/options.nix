# Options: their declarations, their text in messages, and their list for documentation.
{ lib }:
let
  inherit (builtins)
    all concatLists concatMap concatStringsSep filter foldl' head isAttrs isBool isInt isList isString length match
    tail
    ;
  inherit (lib) concatMapStrings isFunction optional optionalAttrs types;

  unknownModule = "<unknown-file>";
  isOption = lib.isType "option";

  suggestion = "Use `lib.mkForce value` or `lib.mkDefault value` to change the priority on any of these definitions.\n";

  # "<name>" and "*" mean any name.
  showOption = lib.concatMapStringsSep "." (
    part: if part == "*" || match "<(.*)>" part != null then part else lib.escapeNixIdentifier part
  );
  showFiles = lib.concatMapStringsSep " and " (file: "`${file}'");
  # Lists definitions by file, with at most five lines of each value. Omits a value whose evaluation fails.
  showDefs = concatMapStrings (
    definition:
    let
      shown = builtins.tryEval (
        lib.generators.toPretty { } (
          lib.generators.withRecursion { depthLimit = 10; throwOnDepthLimit = false; } definition.value
        )
      );
      lines = lib.splitString "\n" shown.value;
      value = concatStringsSep "\n    " (lib.take 5 lines ++ optional (length lines > 5) "...");
    in
    "\n- In `${definition.file}'"
    + (if !shown.success then "" else if length lines > 1 then ":\n    ${value}" else ": ${value}")
  );

  mergeUniqueOption =
    { message, merge ? _: definitions: (head definitions).value }:
    loc: definitions:
    if length definitions == 1 then
      merge loc definitions
    else
      throw "The option `${showOption loc}' is defined multiple times while it's expected to be unique.\n${message}\nDefinition values:${showDefs definitions}\n${suggestion}";

  literal =
    name: text:
    if isString text then { _type = name; inherit text; } else throw "${name} expects a string.";
  literalExpression = literal "literalExpression";

  mkOption =
    {
      default ? null,
      defaultText ? null,
      example ? null,
      description ? null,
      relatedPackages ? null,
      type ? null,
      apply ? null,
      internal ? null,
      visible ? null,
      readOnly ? null,
    }@option:
    option // { _type = "option"; };

  # The text of a default or an example in documentation.
  render =
    value:
    if value ? _type && value ? text then
      value
    else
      literalExpression (lib.generators.toPretty { multiline = true; allowPrettyValues = true; } value);
in
{
  inherit isOption literalExpression mergeUniqueOption mkOption showDefs showFiles showOption unknownModule;

  mkEnableOption =
    name:
    mkOption {
      default = false;
      example = true;
      description = "Whether to enable ${name}.";
      type = types.bool;
    };

  # Functions that merge definitions to one value, which the type has checked.
  mergeDefaultOption =
    let
      merge =
        loc: definitions: list:
        if length list == 1 then
          head list
        else if all isFunction list then
          argument: merge loc definitions (map (f: f argument) list)
        else if all isList list then
          concatLists list
        else if all isAttrs list then
          foldl' (set: other: set // other) { } list
        else if all isBool list then
          builtins.any (value: value) list
        else if all isString list then
          concatStringsSep "" list
        else if all isInt list && all (value: value == head list) list then
          head list
        else
          throw "Cannot merge definitions of `${showOption loc}'. Definition values:${showDefs definitions}";
    in
    loc: definitions: merge loc definitions (map (definition: definition.value) definitions);
  mergeOneOption = mergeUniqueOption { message = ""; };
  # Does not compare a single definition, because functions are never equal.
  mergeEqualOption =
    loc: definitions:
    (foldl' (
      first: definition:
      if definition.value == first.value then
        first
      else
        throw "The option `${showOption loc}' has conflicting definition values:${showDefs [ first definition ]}\n${suggestion}"
    ) (head definitions) (tail definitions)).value;

  # All options, including those of submodules.
  optionAttrSetToDocList =
    let
      list =
        options:
        concatMap (
          option:
          let
            name = showOption option.loc;
            visible = option.visible or true;
            type = option.type or { };
            # The value of an empty submodule may be an error; only list its options.
            hasEmpty = type.emptyValue or { } ? value && type.getSubModules or null == null;
            explain = what: builtins.addErrorContext "while evaluating the ${what} of option `${name}`";
          in
          [
            (
              {
                inherit name;
                inherit (option) loc;
                description = option.description or null;
                declarations = filter (file: file != unknownModule) option.declarations;
                internal = option.internal or false;
                visible = if isBool visible then visible else visible == "shallow";
                readOnly = option.readOnly or false;
                type = type.description or "unspecified";
              }
              // optionalAttrs (option ? example) { example = explain "example" (render option.example); }
              // optionalAttrs (option ? defaultText || option ? default || hasEmpty) {
                default = explain (if option ? defaultText then "defaultText" else "default value") (
                  render (option.defaultText or option.default or type.emptyValue.value)
                );
              }
              // optionalAttrs (option.relatedPackages or null != null) { inherit (option) relatedPackages; }
            )
          ]
          ++ lib.optionals (if isBool visible then visible else visible == "transparent") (
            list (option.type.getSubOptions option.loc)
          )
        ) (lib.collect isOption options);
    in
    list;
}
