# Checks of arguments. Each takes the name of the function and the argument's place, as in "perms[2].mode", and gives the
# value back, or says what is wrong with it.
{ lib }:

let
  codecs = import ../codecs.nix;
  strategies = import ../strategies.nix;

  fail =
    function: place: expected: value:
    throw "nixply: ${function}: ${place}: expected ${expected}, but it is ${shown value}";

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

  # A check that a predicate makes.
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

  # A list of what another check takes; null is one with nothing in it.
  orEmpty =
    each: function: place: value:
    listOf each function place (if value == null then [ ] else value);

  # A set with these attributes and no others; `null` is absent.
  setOf =
    attributes: function: place: value:
    let
      given = lib.filterAttrs (_: value: value != null) value;
      unknown = builtins.attrNames (builtins.removeAttrs given (builtins.attrNames attributes));
      takes = builtins.concatStringsSep ", " (builtins.attrNames attributes);
    in
    if !builtins.isAttrs value then
      fail function place "a set" value
    else if unknown != [ ] then
      throw "nixply: ${function}: ${place}.${builtins.head unknown}: there is no such attribute; it takes ${takes}"
    else
      builtins.mapAttrs (name: attributes.${name} function "${place}.${name}") given;

  self = {
    # Text, which brings no store path along, whatever it was made of.
    string =
      function: place: value:
      builtins.unsafeDiscardStringContext (that builtins.isString "a string" function place value);
    bool = that builtins.isBool "true or false";
    # A set; null is one with nothing in it.
    set =
      function: place: value:
      that builtins.isAttrs "a set" function place (if value == null then { } else value);
    # How many layers at most; null is one.
    maxLayers =
      function: place: value:
      that (value: builtins.isInt value && value >= 1) "a number from 1 on" function place (
        if value == null then 1 else value
      );
    id = that (value: builtins.isInt value && value >= 0 && value < 4294967295) "an id from 0 to 4294967294";
    mode = that (
      value: builtins.isString value && builtins.match "0*[0-7]{0,4}" value != null
    ) "octal digits up to 7777, as in \"0755\"";
    # A store path. Plain text that names one gets it as its context: a derivation would not know of it otherwise.
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

    # How layers are compressed.
    codec =
      function: place: value:
      let
        text = self.string function place value;
      in
      if builtins.match codecs.pattern text != null then text else fail function place codecs.description text;

    # Null, or what another check takes.
    null =
      check: function: place: value:
      if value == null then null else check function place value;

    # How store paths are grouped: what is said, or nix2container's way, on which its digests depend.
    grouping =
      function:
      { strategy, groups }:
      {
        strategy =
          if strategy != null then
            that (value: builtins.elem value (strategies ++ [ "explicit" ])) "one of ${
              builtins.concatStringsSep ", " strategies
            }, or explicit with groups" function "strategy" (self.string function "strategy" strategy)
          else if groups != null then
            "explicit"
          else
            "popularity";
      }
      // lib.optionalAttrs (groups != null) {
        # What is in a group, the packer checks.
        groups = that builtins.isList "a list of groups" function "groups" groups;
      };

    # A lock file, and which image's layers in it these are.
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
        throw "nixply: ${function}: ${place}: it needs a file, and the name of the image whose layers in it are these";

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
      retries = that (value: builtins.isInt value && value >= 0) "a number from 0 on";
    };

    # A store path, a list of them, or null; gives a list.
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
      ) "a layer made by buildLayer"
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
      if perm ? path then perm else throw "nixply: ${function}: ${place}: it needs a path, the store path that it is for"
    );

    metadata =
      function: place: value:
      setOf {
        created = self.string;
        created_by = self.string;
        author = self.string;
        comment = self.string;
      } function place (if value == null then { } else value);

    # `copyToRoot`, or `contents`, which nix2container has given up; gives a list.
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
