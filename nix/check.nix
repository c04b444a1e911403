# Checks of arguments. Each check takes the name of the function, the argument's path, as in "perms[2].mode", and a value. It
# returns the value, or throws an error that names the argument. `declared` returns the check of an argument from its declaration in
# arguments.json.
{
  # Returns the end of an error about an unknown name: name -> known names -> text.
  suggestion ? _: _: "",
  # The checks of store paths.
  storePath ? _: _: value: value,
  storePaths ? storePath,
}:

let
  inherit (builtins)
    attrNames
    concatStringsSep
    elem
    filter
    head
    isAttrs
    isBool
    isInt
    isList
    isString
    mapAttrs
    ;

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
    else if isString value then
      "the string ${builtins.toJSON (builtins.unsafeDiscardStringContext value)}"
    else if isInt value then
      toString value
    else if isBool value then
      if value then "true" else "false"
    else
      { set = "a set"; lambda = "a function"; list = "a list"; float = "a float"; path = "a path"; }.${type} or type;

  # A check with a predicate.
  that =
    predicate: expected: function: place: value:
    if predicate value then value else fail function place expected value;

  listOf =
    each: function: place: value:
    if isList value then
      builtins.genList (at: each function "${place}[${toString at}]" (builtins.elemAt value at)) (builtins.length value)
    else
      fail function place "a list" value;

  unknownAttribute =
    function: what: name: known:
    throw "nixply: ${function}: unknown ${what}, expected one of ${concatStringsSep ", " known}${suggestion name known}";

  # Removes the attributes that are null: they mean the same as absent ones.
  withoutNulls = set: removeAttrs set (filter (name: set.${name} == null) (attrNames set));

  # A set with only these attributes, each with its check, and with all required ones. An attribute that is null counts as absent.
  setOf =
    { checks, required }:
    function: place: value:
    let
      given = withoutNulls value;
      unknown = attrNames (removeAttrs given (attrNames checks));
      missing = filter (name: !(given ? ${name})) required;
    in
    if !isAttrs value then
      fail function place "a set" value
    else if unknown != [ ] then
      unknownAttribute function "attribute `${place}.${head unknown}`" (head unknown) (attrNames checks)
    else if missing != [ ] then
      throw "nixply: ${function}: argument `${place}` lacks the attribute `${head missing}`"
    else
      mapAttrs (name: checks.${name} function "${place}.${name}") given;

  # Text without string context, so that it never adds a store path to the image.
  string =
    function: place: value:
    builtins.unsafeDiscardStringContext (that isString "a string" function place value);

  # A string that matches a pattern.
  matching =
    { pattern, expected }:
    function: place: value:
    if isString value && builtins.match pattern (builtins.unsafeDiscardStringContext value) != null then
      builtins.unsafeDiscardStringContext value
    else
      fail function place expected value;

  # A whole number. The highest one may be unlimited.
  integer =
    {
      minimum,
      maximum ? null,
    }:
    that (value: isInt value && value >= minimum && (maximum == null || value <= maximum)) (
      if maximum == null then
        "a whole number of at least ${toString minimum}"
      else
        "a whole number from ${toString minimum} to ${toString maximum}"
    );

  enum =
    { values, formerValues }:
    function: place: value:
    let
      text = string function place value;
    in
    if elem text values || formerValues ? ${text} then
      text
    else
      throw "nixply: ${function}: argument `${place}` must be one of ${concatStringsSep ", " values}, got ${shown text}${suggestion text values}";

  boolean = that isBool "true or false";
  set = that isAttrs "a set";
  list = that isList "a list";

  declared =
    declaration:
    {
      inherit boolean storePath storePaths;
      enum = enum { inherit (declaration) values formerValues; };
      integer = integer (builtins.intersectAttrs { minimum = null; maximum = null; } declaration);
      list = if declaration ? element then listOf (declared declaration.element) else list;
      set =
        if declaration ? keys then
          setOf {
            inherit (declaration) required;
            checks = mapAttrs (_: declared) declaration.keys;
          }
        else
          set;
      string = if declaration ? pattern then matching { inherit (declaration) pattern expected; } else string;
      stringOrList = that (value: isString value || isList value) "a string or a list of strings";
      strings =
        function: place: value:
        mapAttrs (name: string function "${place}.${name}") (set function place value);
    }
    .${declaration.kind};
in
{
  inherit
    boolean
    declared
    listOf
    setOf
    string
    that
    unknownAttribute
    withoutNulls
    ;
}
