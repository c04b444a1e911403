# Types that contain other types, such as alternatives and submodules. types.nix includes them.
{ lib, types, around, phrase, ofNouns, orNouns, unchecked }:
let
  inherit (builtins) attrNames elemAt filter foldl' head isAttrs length tail;
  inherit (lib) isFunction last mergeOneOption optionalAttrs setDefaultModuleLocation showFiles showOption;
  inherit (types) mkOptionType;

  # Values that can be modules.
  isModule = value: isAttrs value || isFunction value || types.path.check value;

  # Returns an argument that one or both of two declarations have. Fails if both have it with different values.
  either =
    what: one: other:
    if one == null then
      other
    else if other == null || one == other then
      one
    else
      throw "A submoduleWith option is declared multiple times with conflicting ${what}";
in
{

  nullOr =
    elemType:
    around {
      name = "nullOr";
      description = "null or ${orNouns elemType}";
      descriptionClass = "conjunction";
      check = value: value == null || elemType.check value;
      merge =
        loc: definitions:
        let
          nulls = filter (definition: definition.value == null) definitions;
        in
        if nulls == [ ] then
          elemType.merge loc definitions
        else if length nulls == length definitions then
          null
        else
          throw "The option `${showOption loc}` is defined both null and not null, in ${
            showFiles (map (definition: definition.file) definitions)
          }.";
      emptyValue.value = null;
      inherit elemType;
      again = types.nullOr;
    };

  either =
    left: right:
    mkOptionType rec {
      name = "either";
      description =
        if left.descriptionClass or null == "nonRestrictiveClause" then
          "${left.description}, or ${orNouns right}"
        else
          "${orNouns left} or ${phrase [ "noun" "conjunction" "composite" ] right}";
      descriptionClass = "conjunction";
      check = value: left.check value || right.check value;
      merge =
        loc: definitions:
        let
          are = type: builtins.all (definition: type.check definition.value) definitions;
        in
        if are left then
          left.merge loc definitions
        else if are right then
          right.merge loc definitions
        else
          mergeOneOption loc definitions;
      typeMerge =
        other:
        let
          joined = at: type: type.typeMerge (elemAt other.payload.elemType at).functor;
        in
        if other.name != name || joined 0 left == null || joined 1 right == null then
          null
        else
          types.either (joined 0 left) (joined 1 right);
      functor = {
        inherit name;
        payload.elemType = [ left right ];
        type = types.either;
        binOp = _: _: null;
      };
      nestedTypes = { inherit left right; };
    };
  oneOf =
    alternatives:
    if alternatives == [ ] then
      throw "types.oneOf needs to get at least one type in its argument"
    else
      foldl' types.either (head alternatives) (tail alternatives);

  # The definitions are modules, which are evaluated when they are merged. A definition that is a set is a module's config.
  submodule =
    modules: types.submoduleWith { shorthandOnlyDefinesConfig = true; modules = lib.toList modules; };
  submoduleWith =
    {
      modules,
      specialArgs ? { },
      shorthandOnlyDefinesConfig ? false,
      description ? null,
      class ? null,
    }@given:
    let
      base = lib.evalModules {
        inherit class specialArgs;
        # The default name, for documentation.
        modules = [ { _module.args.name = lib.mkOptionDefault "‹name›"; } ] ++ modules;
      };
      inherit (base._module) freeformType;
      documented = prefix: base.extendModules { inherit prefix; modules = [ unchecked ]; };
      documentedType = (documented [ ])._module.freeformType;
    in
    mkOptionType rec {
      name = "submodule";
      description =
        if given.description or null != null then
          given.description
        else if documentedType ? description then
          "open ${name} of ${ofNouns documentedType}"
        else
          name;
      check = isModule;
      merge =
        loc: definitions:
        (base.extendModules {
          prefix = loc;
          modules = [
            { _module.args.name = last loc; }
          ]
          ++ map (
            { file, value, ... }:
            if isAttrs value && shorthandOnlyDefinesConfig then
              { _file = file; config = value; }
            else
              { _file = file; imports = [ value ]; }
          ) definitions;
        }).config;
      emptyValue.value = base.config;
      getSubOptions =
        prefix:
        let
          evaluated = documented prefix;
          open = evaluated._module.freeformType;
        in
        evaluated.options
        // optionalAttrs (open != null) { _freeformOptions = open.getSubOptions prefix; };
      getSubModules = modules;
      substSubModules = others: types.submoduleWith (given // { modules = others; });
      nestedTypes = optionalAttrs (freeformType != null) { inherit freeformType; };
      functor = {
        inherit name;
        type = types.submoduleWith;
        payload = { inherit modules class specialArgs shorthandOnlyDefinesConfig description; };
        binOp =
          one: other:
          let
            both = builtins.intersectAttrs one.specialArgs other.specialArgs;
          in
          {
            modules = one.modules ++ other.modules;
            specialArgs =
              if both == { } then
                one.specialArgs // other.specialArgs
              else
                throw "A submoduleWith option is declared multiple times with the same specialArgs \"${toString (attrNames both)}\"";
            class = either "class values" one.class other.class;
            shorthandOnlyDefinesConfig =
              either "shorthandOnlyDefinesConfig values" one.shorthandOnlyDefinesConfig
                other.shorthandOnlyDefinesConfig;
            description = either "descriptions" one.description other.description;
          };
      };
    };

  # A module for another evaluation.
  deferredModule = types.deferredModuleWith { };
  deferredModuleWith =
    { staticModules ? [ ] }:
    mkOptionType {
      name = "deferredModule";
      description = "module";
      descriptionClass = "noun";
      check = isModule;
      merge = loc: definitions: {
        imports =
          staticModules
          ++ map (
            { file, value, ... }:
            setDefaultModuleLocation "${file}, via option ${showOption loc}" value
          ) definitions;
      };
      inherit (types.submoduleWith { modules = staticModules; }) getSubOptions getSubModules;
      substSubModules = modules: types.deferredModuleWith { staticModules = modules; };
      functor = {
        name = "deferredModuleWith";
        payload = { inherit staticModules; };
        type = types.deferredModuleWith;
        binOp = one: other: { staticModules = one.staticModules ++ other.staticModules; };
      };
    };

  # A type as a value. Several definitions are joined like the types of several declarations.
  optionType = mkOptionType {
    name = "optionType";
    description = "optionType";
    descriptionClass = "noun";
    check = lib.isType "option-type";
    merge =
      loc: definitions:
      if length definitions == 1 then
        (head definitions).value
      else
        (lib.fixupOptionType loc (
          lib.mergeOptionDecls loc (
            map ({ file, value, ... }: { _file = file; options = lib.mkOption { type = value; }; }) definitions
          )
        )).type;
  };
}
