# Checks of arguments. Each check takes the name of the function, the argument's path, as in "perms[2].mode", and a value. It
# returns the value, or throws an error that names the argument.
#
# The checks of an image's and a layer's arguments follow from their declarations in arguments.json.
{ lib }:

let
  arguments = import ../arguments.nix;
  strategies = arguments.strategies ++ [ "explicit" ];

  fail =
    function: place: expected: value:
    throw "nixply: ${function}: argument `${place}` must be ${expected}, got ${shown value}";

  shown =
    value:
    let
      type = builtins.typeOf value;
    in
    if value == null then
      "null"
    else if builtins.isString value then
      "the string ${builtins.toJSON (builtins.unsafeDiscardStringContext value)}"
    else if builtins.isInt value then
      toString value
    else if builtins.isBool value then
      lib.boolToString value
    else
      { set = "a set"; lambda = "a function"; list = "a list"; float = "a float"; path = "a path"; }.${type} or type;

  # A check with a predicate.
  that =
    predicate: expected: function: place: value:
    if predicate value then value else fail function place expected value;

  isStorePath =
    value:
    builtins.isPath value
    || (builtins.isAttrs value && (value ? outPath || value ? __toString))
    || (builtins.isString value && (builtins.hasContext value || lib.hasPrefix "${builtins.storeDir}/" value));

  listOf =
    each: function: place: value:
    if builtins.isList value then
      lib.imap0 (at: each function "${place}[${toString at}]") value
    else
      fail function place "a list" value;

  # The end of an error about an unknown name: the known ones, and those that are most similar.
  instead =
    name: names:
    let
      distance = lib.strings.levenshtein name;
      least = builtins.foldl' (least: other: lib.min least (distance other)) 2 names;
      near = builtins.filter (other: distance other <= least) names;
      meant = builtins.concatStringsSep " or " (map (other: "`${other}`") near);
    in
    "expected one of ${builtins.concatStringsSep ", " names}"
    + lib.optionalString (near != [ ]) "; did you mean ${meant}?";

  # A set with only these attributes, each with its check, and with all required ones. An attribute that is null counts as absent.
  setOf =
    { checks, required }:
    function: place: value:
    let
      given = lib.filterAttrs (_: value: value != null) value;
      unknown = builtins.attrNames (removeAttrs given (builtins.attrNames checks));
      missing = builtins.filter (name: !(given ? ${name})) required;
    in
    if !builtins.isAttrs value then
      fail function place "a set" value
    else if unknown != [ ] then
      throw "nixply: ${function}: unknown attribute `${place}.${builtins.head unknown}`, ${instead (builtins.head unknown) (builtins.attrNames checks)}"
    else if missing != [ ] then
      throw "nixply: ${function}: argument `${place}` lacks the attribute `${builtins.head missing}`"
    else
      builtins.mapAttrs (name: checks.${name} function "${place}.${name}") given;

  # A string that matches a pattern.
  matching =
    { pattern, expected }:
    function: place: value:
    let
      text = self.string function place value;
    in
    if !builtins.isString value then
      fail function place expected value
    else if builtins.match pattern text != null then
      text
    else
      fail function place expected text;

  # A whole number. The highest one may be unlimited.
  integer =
    {
      minimum,
      maximum ? null,
    }:
    that (value: builtins.isInt value && value >= minimum && (maximum == null || value <= maximum)) (
      if maximum == null then
        "a whole number of at least ${toString minimum}"
      else
        "a whole number from ${toString minimum} to ${toString maximum}"
    );

  # The check of an argument, from its declaration.
  declared =
    declaration:
    {
      boolean = self.bool;
      integer = integer (lib.filterAttrs (name: _: name == "minimum" || name == "maximum") declaration);
      list = if declaration ? element then listOf (declared declaration.element) else that builtins.isList "a list";
      set =
        if declaration ? keys then
          setOf {
            inherit (declaration) required;
            checks = builtins.mapAttrs (_: declared) declaration.keys;
          }
        else
          that builtins.isAttrs "a set";
      string =
        if declaration ? pattern then matching { inherit (declaration) pattern expected; } else self.string;
      stringOrList = that (value: builtins.isString value || builtins.isList value) "a string or a list of strings";
      strings =
        function: place: value:
        builtins.mapAttrs (name: self.string function "${place}.${name}") (that builtins.isAttrs "a set" function place value);
      inherit (self) storePath;
      storePaths = self.oneOrMany;
      strategy =
        function: place: value:
        that (value: builtins.elem value (strategies ++ arguments.formerStrategies))
          "one of ${builtins.concatStringsSep ", " strategies}"
          function
          place
          (self.string function place value);
    }
    .${declaration.kind};

  self = {
    # Text without string context, so that it never adds a store path to the image.
    string =
      function: place: value:
      builtins.unsafeDiscardStringContext (that builtins.isString "a string" function place value);
    bool = that builtins.isBool "true or false";
    # The ID of a user or a group.
    id = declared arguments.image.nixDatabase.keys.uid;
    # The layers' compression.
    codec = declared arguments.image.compression;
    # A store path. If it is text without context, adds the context: otherwise a derivation would not depend on the path.
    storePath =
      function: place: value:
      let
        checked = that isStorePath "a derivation, a path or a string with a store path" function place value;
      in
      if builtins.isString checked && !builtins.hasContext checked then
        builtins.appendContext checked { ${checked}.path = true; }
      else
        checked;

    # A store path, a list of store paths, or null. Returns a list.
    oneOrMany =
      function: place: value:
      if value == null then
        [ ]
      else if builtins.isList value then
        listOf self.storePath function place value
      else
        [ (self.storePath function place value) ];

    # The arguments of an image or a layer, for the packer. Null is an absent one. `formals` are the names of the function's own
    # arguments, for the error about an unknown one. The default strategy is nix2container's, so that layers have the same digests;
    # with a lock file it is the strategy that uses one.
    arguments =
      function:
      { declarations, formals }:
      set:
      let
        given = lib.filterAttrs (_: value: value != null) set;
        unknown = builtins.attrNames (removeAttrs given (builtins.attrNames declarations));
        # Sorted, without duplicates.
        known = builtins.attrNames (lib.genAttrs (formals ++ builtins.attrNames declarations) (_: null));
        strategy =
          if given ? groups then
            "explicit"
          else if given ? lock then
            "min-churn"
          else
            "popularity";
      in
      if unknown != [ ] then
        throw "nixply: ${function}: unknown argument `${builtins.head unknown}`, ${instead (builtins.head unknown) known}"
      else
        { inherit strategy; } // builtins.mapAttrs (name: declared declarations.${name} function name) given;

    layers = listOf (
      that (
        value: builtins.isAttrs value && value ? outPath && value ? nestedLayers
      ) "a layer from buildLayer"
    );

    # `copyToRoot`, or `contents`, which nix2container has deprecated. Returns a list. The messages are nix2container's.
    copyToRoot =
      function: { copyToRoot, contents }:
      lib.warnIf (contents != null)
        "The contents parameter is deprecated. Change to copyToRoot if the contents are designed to be copied to the root filesystem, such as when you use `buildEnv` or similar between contents and your packages. Use copyToRoot = buildEnv { ... }; or similar if you intend to add packages to /bin."
        lib.throwIf
        (contents != null && copyToRoot != null)
        "You can not specify both contents and copyToRoot."
        (
          if contents != null then
            self.oneOrMany function "contents" contents
          else
            self.oneOrMany function "copyToRoot" copyToRoot
        );
  };
in
self
