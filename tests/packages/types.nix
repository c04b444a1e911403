# The types of options, nixpkgs' `lib.types`. A type checks the outermost level of a definition (`check`), merges all definitions to
# one value (`merge`), and may be joined with the type of a second declaration (`typeMerge`).
{ lib }:
let
  inherit (builtins)
    concatLists elem filter head isAttrs isBool isFloat isInt isList isPath isString length mapAttrs match removeAttrs
    storeDir substring zipAttrsWith
    ;
  inherit (lib)
    concatMapStringsSep imap1 isDerivation isStorePath isStringLike mergeDefaultOption mergeDefinitions
    mergeEqualOption mergeOneOption mergeUniqueOption showFiles showOption
    ;

  values = map (definition: definition.value);
  files = map (definition: definition.file);

  # Returns a type's description for use in another type's description: in parentheses, unless the type has one of these classes.
  phrase =
    classes: type:
    if elem (type.descriptionClass or null) classes then type.description else "(${type.description})";
  ofNouns = phrase [ "noun" "composite" ];
  orNouns = phrase [ "noun" "conjunction" ];

  defaultFunctor = name: { inherit name; type = types.${name} or null; payload = null; binOp = _: _: null; };

  # Joins the types of two declarations; null if that is impossible.
  defaultTypeMerge =
    own: other:
    let
      payload = own.binOp own.payload other.payload;
    in
    if own.name != other.name then
      null
    else if own.payload == null then
      own.type
    else if payload == null then
      null
    else
      own.type payload;

  mkOptionType =
    type@{ name, functor ? defaultFunctor name, ... }:
    {
      _type = "option-type";
      description = if type.description or null == null then name else type.description;
      descriptionClass = null;
      check = _: true;
      merge = mergeDefaultOption;
      emptyValue = { };
      getSubOptions = _: { };
      getSubModules = null;
      substSubModules = _: null;
      typeMerge = defaultTypeMerge functor;
      inherit functor;
      deprecationMessage = null;
      nestedTypes = { };
    }
    // removeAttrs type [ "description" ];

  # A type whose definitions must be equal.
  plain =
    name: description: check:
    mkOptionType { inherit name description check; descriptionClass = "noun"; merge = mergeEqualOption; };

  # A type with an element type. `again` returns the same type for another element type. `place` returns the path of the elements'
  # options.
  around =
    { name, elemType, again, place ? prefix: prefix, ... }@type:
    mkOptionType (
      {
        getSubOptions = prefix: elemType.getSubOptions (place prefix);
        inherit (elemType) getSubModules;
        substSubModules = modules: again (elemType.substSubModules modules);
        functor = {
          inherit name;
          payload = { inherit elemType; };
          type = payload: again payload.elemType;
          binOp =
            one: other:
            let
              joined = one.elemType.typeMerge other.elemType.functor;
            in
            if joined == null then null else { elemType = joined; };
        };
        nestedTypes = { inherit elemType; };
      }
      // removeAttrs type [ "elemType" "again" "place" ]
    );

  # `//` keeps the functor, so the result is joined like the type that it narrows.
  addCheck = type: check: type // { check = value: type.check value && check value; };

  between =
    low: high:
    assert low <= high || throw "ints.between: lowest must be smaller than highest";
    addCheck types.int (value: value >= low && value <= high)
    // {
      name = "intBetween";
      description = "integer between ${inclusive low high}";
    };
  inclusive = low: high: "${toString low} and ${toString high} (both inclusive)";
  bits =
    name: description: low: high:
    between low high // { inherit name; description = "${description}; between ${inclusive low high}"; };
  unsigned = bit: end: bits "unsignedInt${toString bit}" "${toString bit} bit unsigned integer" 0 (end - 1);
  signed =
    bit: end:
    bits "signedInt${toString bit}" "${toString bit} bit signed integer" (0 - end / 2) (end / 2 - 1);

  narrow =
    type: name: description: check:
    addCheck type check // { inherit name description; descriptionClass = "nonRestrictiveClause"; };

  # Paths below the store's directory belong to a store path; a placeholder is a content-addressed path that is not built yet.
  inStore =
    path:
    let
      parts = filter (part: part != "" && part != ".") (lib.splitString "/" path);
      store = filter (part: part != "") (lib.splitString "/" storeDir);
      below = lib.drop (length store) parts;
    in
    lib.take (length store) parts == store && below != [ ] && match ".{32}-.+" (head below) != null
    || parts != [ ] && match "[0-9a-z]{52}" (head parts) != null;

  # Documentation does not check definitions.
  unchecked = { _file = "<documentation>"; config._module.check = lib.mkForce false; };

  attrsWith =
    { elemType, lazy ? false, placeholder ? "name" }:
    around {
      name = if lazy then "lazyAttrsOf" else "attrsOf";
      description = "${if lazy then "lazy attribute set" else "attribute set"} of ${ofNouns elemType}";
      descriptionClass = "composite";
      check = isAttrs;
      # A set has only the attributes whose conditions (`mkIf`) hold. A lazy set has all attributes.
      merge =
        loc: definitions:
        let
          merged = zipAttrsWith (name: mergeDefinitions (loc ++ [ name ]) elemType) (
            map ({ file, value, ... }: mapAttrs (_: inner: { inherit file; value = inner; }) value) definitions
          );
        in
        if lazy then
          mapAttrs (_: one: one.optionalValue.value or elemType.emptyValue.value or one.mergedValue) merged
        else
          mapAttrs (_: one: one.mergedValue) (lib.filterAttrs (_: one: one.isDefined) merged);
      emptyValue.value = { };
      place = prefix: prefix ++ [ "<${placeholder}>" ];
      inherit elemType;
      again = elemType: attrsWith { inherit elemType lazy placeholder; };
    };

  pathWith =
    { inStore ? null, absolute ? null }@wanted:
    let
      where = if inStore == null then "" else if inStore then " in the Nix store" else " not in the Nix store";
    in
    mkOptionType {
      name = "path";
      description = "${if absolute == null then "" else if absolute then "absolute " else "relative "}path${where}";
      descriptionClass = "noun";
      merge = mergeEqualOption;
      functor = {
        name = "path";
        payload = { inherit inStore absolute; };
        type = pathWith;
        binOp = one: other: if one == other then one else null;
      };
      # A path outside of the store must be a string, because Nix may copy a path value to the store.
      check =
        value:
        let
          text = builtins.unsafeDiscardStringContext (toString value);
        in
        (if inStore == false then isString value else isStringLike value)
        && (inStore == null || inStore == isBelowStore text)
        && (absolute == null || absolute == (substring 0 1 text == "/"));
    };
  isBelowStore = inStore;

  unique =
    { message }:
    type:
    around {
      name = "unique";
      inherit (type) description descriptionClass check emptyValue;
      merge = mergeUniqueOption { inherit message; inherit (type) merge; };
      elemType = type;
      again = unique { inherit message; };
    };

  types = {
    inherit addCheck attrsWith defaultFunctor defaultTypeMerge mkOptionType pathWith unique;
    isType = lib.isType;

    # Any value.
    raw = mkOptionType {
      name = "raw";
      description = "raw value";
      descriptionClass = "noun";
      merge = mergeOneOption;
    };
    unspecified = mkOptionType {
      name = "unspecified";
      description = "unspecified value";
      descriptionClass = "noun";
    };
    anything = mkOptionType {
      name = "anything";
      description = "anything";
      descriptionClass = "noun";
      merge =
        loc: definitions:
        let
          kindOf = value: if isAttrs value && isStringLike value then "package" else builtins.typeOf value;
          kinds = map kindOf (values definitions);
          kind = head kinds;
        in
        if !builtins.all (other: other == kind) kinds then
          throw "The option `${showOption loc}' has conflicting option types in ${showFiles (files definitions)}"
        else if kind == "set" then
          (types.attrsOf types.anything).merge loc definitions
        else if kind == "package" then
          mergeOneOption loc definitions
        else if kind == "lambda" then
          argument:
          types.anything.merge (loc ++ [ "<function body>" ]) (
            map ({ file, value, ... }: { inherit file; value = value argument; }) definitions
          )
        else
          mergeEqualOption loc definitions;
    };

    # Single values.
    bool = plain "bool" "boolean" isBool;
    int = plain "int" "signed integer" isInt;
    float = plain "float" "floating point number" isFloat;
    number = types.either types.int types.float;
    ints = {
      inherit between;
      unsigned = narrow types.int "unsignedInt" "unsigned integer, meaning >=0" (value: value >= 0);
      positive = narrow types.int "positiveInt" "positive integer, meaning >0" (value: value > 0);
      u8 = unsigned 8 256;
      u16 = unsigned 16 65536;
      u32 = unsigned 32 4294967296;
      s8 = signed 8 256;
      s16 = signed 16 65536;
      s32 = signed 32 4294967296;
    };
    enum =
      allowed:
      let
        show =
          value:
          if isString value then
            "\"${value}\""
          else if isInt value then
            toString value
          else if isBool value then
            lib.boolToString value
          else
            "<${builtins.typeOf value}>";
      in
      mkOptionType {
        name = "enum";
        description =
          if allowed == [ ] then
            "impossible (empty enum)"
          else if length allowed == 1 then
            "value ${show (head allowed)} (singular enum)"
          else
            "one of ${concatMapStringsSep ", " show allowed}";
        descriptionClass = if length allowed < 2 then "noun" else "conjunction";
        check = value: elem value allowed;
        merge = mergeEqualOption;
        functor = {
          name = "enum";
          payload.values = allowed;
          type = payload: types.enum payload.values;
          binOp = one: other: { values = lib.unique (one.values ++ other.values); };
        };
      };

    # Texts.
    str = plain "str" "string" isString;
    strMatching =
      pattern:
      plain "strMatching ${builtins.toJSON pattern}" "string matching the pattern ${pattern}" (
        value: isString value && match pattern value != null
      )
      // rec {
        functor = {
          name = "strMatching";
          payload = { inherit pattern; };
          type = payload: types.strMatching payload.pattern;
          binOp = one: other: if one == other then one else null;
        };
        typeMerge = defaultTypeMerge functor;
      };
    separatedString =
      separator:
      mkOptionType {
        name = "separatedString";
        description = "strings concatenated with ${builtins.toJSON separator}";
        descriptionClass = "noun";
        check = isString;
        merge = _: definitions: builtins.concatStringsSep separator (values definitions);
        functor = {
          name = "separatedString";
          payload.sep = separator;
          type = payload: types.separatedString payload.sep;
          binOp = one: other: if one == other then one else null;
        };
      };
    lines = types.separatedString "\n";

    # Paths and packages.
    path = pathWith { absolute = true; };
    pathInStore = pathWith { inStore = true; };
    package = mkOptionType {
      name = "package";
      descriptionClass = "noun";
      check = value: isDerivation value || isStorePath value;
      merge =
        loc: definitions:
        let
          value = mergeOneOption loc definitions;
        in
        if isPath value || isString value && !builtins.hasContext value then lib.toDerivation value else value;
    };

    attrsOf = elemType: attrsWith { inherit elemType; };
    lazyAttrsOf = elemType: attrsWith { inherit elemType; lazy = true; };
    listOf =
      elemType:
      around {
        name = "listOf";
        description = "list of ${ofNouns elemType}";
        descriptionClass = "composite";
        check = isList;
        merge =
          loc: definitions:
          map (one: one.mergedValue) (
            filter (one: one.isDefined) (
              concatLists (
                imap1 (
                  at: { file, value, ... }:
                  imap1 (
                    entry: inner:
                    mergeDefinitions (loc ++ [ "[definition ${toString at}-entry ${toString entry}]" ]) elemType [
                      { inherit file; value = inner; }
                    ]
                  ) value
                ) definitions
              )
            )
          );
        emptyValue.value = [ ];
        place = prefix: prefix ++ [ "*" ];
        inherit elemType;
        again = types.listOf;
      };
  }
  // import ./composed-types.nix { inherit lib types around phrase ofNouns orNouns unchecked; };
in
types
