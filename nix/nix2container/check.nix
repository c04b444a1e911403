# Checks of arguments. Each check takes the name of the function, the argument's path, as in "perms[2].mode", and a value. It
# returns the value, or throws an error that names the argument.
{ lib }:

let
  arguments = import ../arguments.nix;
  inherit (arguments) codecs;
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

  # A list whose elements pass another check. Null is an empty list.
  orEmpty =
    each: function: place: value:
    listOf each function place (if value == null then [ ] else value);

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

  # A set with only these attributes, each with its check. An attribute that is null counts as absent.
  setOf =
    attributes: function: place: value:
    let
      given = lib.filterAttrs (_: value: value != null) value;
      unknown = builtins.attrNames (builtins.removeAttrs given (builtins.attrNames attributes));
    in
    if !builtins.isAttrs value then
      fail function place "a set" value
    else if unknown != [ ] then
      throw "nixply: ${function}: unknown attribute `${place}.${builtins.head unknown}`, ${instead (builtins.head unknown) (builtins.attrNames attributes)}"
    else
      builtins.mapAttrs (name: attributes.${name} function "${place}.${name}") given;

  self = {
    # Text without string context, so that it never adds a store path to the image.
    string =
      function: place: value:
      builtins.unsafeDiscardStringContext (that builtins.isString "a string" function place value);
    bool = that builtins.isBool "true or false";
    # A set. Null is an empty set.
    set =
      function: place: value:
      that builtins.isAttrs "a set" function place (if value == null then { } else value);
    # The maximum number of layers. Null is 1.
    maxLayers =
      function: place: value:
      that (value: builtins.isInt value && value >= 1) "a whole number of at least 1" function place (
        if value == null then 1 else value
      );
    id = that (value: builtins.isInt value && value >= 0 && value < 4294967295) "an ID from 0 to 4294967294";
    mode = that (
      value: builtins.isString value && builtins.match "0*[0-7]{0,4}" value != null
    ) "a string of octal digits up to 7777, such as \"0755\"";
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
    storePaths = listOf self.storePath;

    # The layers' compression.
    codec =
      function: place: value:
      let
        text = self.string function place value;
      in
      if builtins.match codecs.pattern text != null then text else fail function place codecs.description text;

    # Null, or a value that passes another check.
    null =
      check: function: place: value:
      if value == null then null else check function place value;

    # The strategy and the groups. The default is nix2container's strategy, so that layers have the same digests; with a lock file it
    # is the strategy that uses one.
    grouping =
      function:
      { strategy, groups, hasLock }:
      {
        strategy =
          if strategy != null then
            that (value: builtins.elem value (strategies ++ arguments.formerStrategies))
              "one of ${builtins.concatStringsSep ", " strategies}"
              function
              "strategy"
              (self.string function "strategy" strategy)
          else if groups != null then
            "explicit"
          else if hasLock then
            "min-churn"
          else
            "popularity";
      }
      // lib.optionalAttrs (groups != null) {
        # The packer checks the groups themselves.
        groups = that builtins.isList "a list of groups" function "groups" groups;
      };

    # Arguments of an image that pass to the packer unchanged. Null is an absent one. `formals` are the arguments that the function
    # itself declares.
    further =
      function: formals: set:
      let
        given = lib.filterAttrs (_: value: value != null) set;
        unknown = builtins.attrNames (removeAttrs given (builtins.attrNames arguments.image));
        # Sorted, without duplicates.
        known = builtins.attrNames (lib.genAttrs (formals ++ builtins.attrNames arguments.image) (_: null));
        checks = {
          inherit (self) string storePath set codec strings;
          boolean = self.bool;
          count = self.maxLayers;
          storePaths = self.oneOrMany;
          list = that builtins.isList "a list";
        };
        checked = builtins.mapAttrs (
          name: (self.argument.${name} or checks.${arguments.image.${name}}) function name
        ) (removeAttrs given [ "strategy" "groups" ]);
      in
      if unknown != [ ] then
        throw "nixply: ${function}: unknown argument `${builtins.head unknown}`, ${instead (builtins.head unknown) known}"
      else
        checked
        // self.grouping function {
          strategy = given.strategy or null;
          groups = given.groups or null;
          hasLock = given ? lock;
        };

    # Checks of single arguments that are stricter than their kind.
    argument = { inherit (self) healthcheck; };

    # A lock file and the name of an image in it.
    lock =
      function: place: value:
      let
        lock = setOf {
          file = self.storePath;
          image = self.string;
        } function place value;
      in
      if lock ? file && lock ? image then
        lock
      else
        throw "nixply: ${function}: argument `${place}` must have the attributes `file`, a lock file, and `image`, the name of the image in it that has these layers";

    # A set of strings.
    strings =
      function: place: value:
      builtins.mapAttrs (name: self.string function "${place}.${name}") (self.set function place value);

    healthcheck = setOf {
      test = that (value: builtins.isString value || builtins.isList value) "a string or a list of strings";
      interval = self.string;
      timeout = self.string;
      startPeriod = self.string;
      startInterval = self.string;
      retries = that (value: builtins.isInt value && value >= 0) "a whole number of at least 0";
    };

    # A store path, a list of store paths, or null. Returns a list.
    oneOrMany =
      function: place: value:
      if value == null then
        [ ]
      else if builtins.isList value then
        self.storePaths function place value
      else
        [ (self.storePath function place value) ];

    layers = listOf (
      that (
        value: builtins.isAttrs value && value ? outPath && value ? nestedLayers
      ) "a layer from buildLayer"
    );

    perms = orEmpty (
      function: place: value:
      let
        perm = setOf {
          path = self.storePath;
          regex = self.string;
          inherit (self) mode;
          uid = self.id;
          gid = self.id;
          uname = self.string;
          gname = self.string;
        } function place value;
      in
      if perm ? path then perm else throw "nixply: ${function}: argument `${place}` must have an attribute `path`, the store path that it applies to"
    );

    metadata =
      function: place: value:
      setOf {
        created = self.string;
        created_by = self.string;
        author = self.string;
        comment = self.string;
      } function place (if value == null then { } else value);

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
