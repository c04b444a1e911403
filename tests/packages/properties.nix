# The properties of definitions (`mkIf`, `mkMerge`, `mkOverride`, `mkOrder`), and their effect on an option's value.
{ lib }:
let
  inherit (builtins) addErrorContext concatMap filter foldl' isAttrs isBool mapAttrs sort;
  inherit (lib) optionalAttrs showDefs showOption;

  # The kind of a property, or an empty string for other values.
  kind = value: value._type or "";

  # In priorities, the smaller number wins; in orders, it comes first.
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  mkOrder = priority: content: { _type = "order"; inherit priority content; };
  defaultOverridePriority = 100;
  defaultOrderPriority = 1000;
  mkOptionDefault = mkOverride 1500;

  # Moves the properties of a module's config to the attributes of its sets, so that the names of the defined options do not
  # depend on conditions.
  pushDownProperties =
    config:
    let
      inside =
        property:
        map (content: if isAttrs content then mapAttrs (_: property) content else content) (
          pushDownProperties config.content
        );
    in
    if kind config == "merge" then
      concatMap pushDownProperties config.contents
    else if kind config == "if" then
      inside (mkIf config.condition)
    else if kind config == "override" then
      inside (mkOverride config.priority)
    else
      [ config ];

  # The values of a definition, after evaluation of its conditions.
  dischargeProperties =
    value:
    if kind value == "merge" then
      concatMap dischargeProperties value.contents
    else if kind value != "if" then
      [ value ]
    else if !isBool value.condition then
      throw "‘mkIf’ called with a non-Boolean condition"
    else if value.condition then
      dischargeProperties value.content
    else
      [ ];

  # The definitions of the best priority, and this priority.
  strongest =
    definitions:
    let
      priority =
        definition:
        if kind definition.value == "override" then definition.value.priority else defaultOverridePriority;
      best = foldl' (least: definition: lib.min least (priority definition)) 9999 definitions;
    in
    {
      highestPrio = best;
      values = map (
        definition:
        if kind definition.value == "override" then definition // { value = definition.value.content; } else definition
      ) (filter (definition: priority definition == best) definitions);
    };

  inOrder =
    definitions:
    let
      ordered =
        definition:
        if kind definition.value == "order" then
          definition // { inherit (definition.value) priority; value = definition.value.content; }
        else
          definition;
      place = definition: definition.priority or defaultOrderPriority;
    in
    if lib.any (definition: kind definition.value == "order") definitions then
      sort (one: other: place one < place other) (map ordered definitions)
    else
      definitions;

  # Merges the definitions `{ file, value }` of the option `loc` to one value.
  mergeDefinitions =
    loc: type: definitions:
    let
      discharged = concatMap (
        definition:
        map (value: if kind value == "definition" then value else { inherit (definition) file; inherit value; }) (
          addErrorContext "while evaluating definitions from `${definition.file}':" (
            dischargeProperties definition.value
          )
        )
      ) definitions;
      chosen = strongest discharged;
      defsFinal = inOrder chosen.values;
      isDefined = defsFinal != [ ];
      wrong = filter (definition: !type.check definition.value) defsFinal;
      mergedValue =
        if !isDefined then
          type.emptyValue.value or (throw
            "The option `${showOption loc}' was accessed but has no value defined. Try setting the option."
          )
        else if wrong != [ ] then
          throw "A definition for option `${showOption loc}' is not of type `${type.description}'. Definition values:${showDefs wrong}"
        else
          type.merge loc defsFinal;
    in
    {
      inherit defsFinal isDefined mergedValue;
      inherit (chosen) highestPrio;
      optionalValue = optionalAttrs isDefined { value = mergedValue; };
    };
in
{
  inherit
    defaultOrderPriority defaultOverridePriority mergeDefinitions mkIf mkMerge mkOptionDefault mkOrder
    mkOverride pushDownProperties
    ;
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  mkBefore = mkOrder 500;
}
