# The part of nixpkgs' lib that images are described with: its names, its meaning.
let
  inherit (builtins)
    concatMap concatStringsSep elem filter foldl' fromJSON genList head isAttrs isFunction isList isString
    listToAttrs match replaceStrings stringLength substring
    ;

  characters = text: genList (at: substring at 1 text) (stringLength text);
  lower = characters "abcdefghijklmnopqrstuvwxyz";
  upper = characters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  special = characters "\\[{()^$?*+|.";

  self = {
    inherit (builtins)
      all any attrNames attrValues catAttrs concatLists concatMap concatStringsSep deepSeq elem elemAt filter foldl'
      fromJSON functionArgs genList genericClosure hasAttr head intersectAttrs isAttrs isBool isFloat isFunction isInt
      isList isPath isString length listToAttrs mapAttrs match partition pathExists readDir readFile removeAttrs
      replaceStrings seq sort stringLength substring tail toJSON trace
      ;

    id = value: value;
    const = value: _: value;
    boolToString = value: if value then "true" else "false";
    defaultTo = default: value: if value == null then default else value;

    # Lists.
    toList = value: if isList value then value else [ value ];
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    flatten = value: if isList value then concatMap self.flatten value else [ value ];
    unique = foldl' (known: value: if elem value known then known else known ++ [ value ]) [ ];
    imap0 = f: list: genList (at: f at (builtins.elemAt list at)) (builtins.length list);
    range = first: last: genList (n: first + n) (if first > last then 0 else last - first + 1);
    last = list: assert list != [ ]; builtins.elemAt list (builtins.length list - 1);
    init = list: assert list != [ ]; genList (builtins.elemAt list) (builtins.length list - 1);

    # Attribute sets.
    nameValuePair = name: value: { inherit name value; };
    optionalAttrs = condition: set: if condition then set else { };
    genAttrs = names: value: listToAttrs (map (name: self.nameValuePair name (value name)) names);
    mapAttrs' = f: set: listToAttrs (self.mapAttrsToList f set);
    mapAttrsToList = f: set: map (name: f name set.${name}) (builtins.attrNames set);
    filterAttrs =
      wanted: set: removeAttrs set (filter (name: !wanted name set.${name}) (builtins.attrNames set));
    recursiveUpdate =
      left: right:
      left
      // builtins.mapAttrs (
        name: value:
        if isAttrs value && isAttrs (left.${name} or null) then self.recursiveUpdate left.${name} value else value
      ) right;

    # Texts.
    optionalString = condition: text: if condition then text else "";
    concatStrings = concatStringsSep "";
    concatMapStrings = f: list: concatStringsSep "" (map f list);
    concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
    stringToCharacters = characters;
    toLower = replaceStrings upper lower;
    toUpper = replaceStrings lower upper;
    hasPrefix = start: text: substring 0 (stringLength start) text == start;
    hasSuffix =
      end: text:
      let
        at = stringLength text - stringLength end;
      in
      at >= 0 && substring at (-1) text == end;
    removePrefix =
      start: text: if self.hasPrefix start text then substring (stringLength start) (-1) text else text;
    removeSuffix =
      end: text:
      if self.hasSuffix end text then substring 0 (stringLength text - stringLength end) text else text;
    escapeRegex = replaceStrings special (map (character: "\\${character}") special);
    splitString =
      separator: text:
      filter isString (builtins.split (self.escapeRegex (toString separator)) (toString text));
    escapeShellArg =
      value:
      let
        text = toString value;
      in
      if match "[[:alnum:],._+:@%/-]+" text == null then
        "'${replaceStrings [ "'" ] [ "'\\''" ] text}'"
      else
        text;
    escapeShellArgs = values: concatStringsSep " " (map self.escapeShellArg values);
    # "007" may mean two numbers, and is none.
    toInt =
      text:
      let
        number = match "[[:space:]]*(-?(0|[1-9][0-9]*))[[:space:]]*" text;
      in
      if number == null then throw "toInt: \"${text}\" is no whole number" else fromJSON (head number);
    importJSON = path: fromJSON (builtins.readFile path);
    versionOlder = one: other: builtins.compareVersions other one == 1;
    versionAtLeast = one: other: !self.versionOlder one other;

    # Messages.
    warn = builtins.warn or (message: builtins.trace "evaluation warning: ${message}");
    warnIf = condition: message: if condition then self.warn message else self.id;
    throwIf = condition: message: if condition then throw message else self.id;
    throwIfNot = condition: self.throwIf (!condition);
    traceIf = condition: message: value: if condition then builtins.trace message value else value;

    # Packages.
    isDerivation = value: value.type or null == "derivation";
    getBin = package: package.bin or package.out or package;
    getExe = package: self.getExe' package (package.meta.mainProgram or package.pname or package.name);
    getExe' = package: program: "${self.getBin package}/bin/${program}";
    makeBinPath = self.concatMapStringsSep ":" (package: "${self.getBin package}/bin");
    # What `f` makes of `args`, with `override` to have other arguments.
    makeOverridable =
      f: args:
      let
        made = f args;
        override =
          changes: self.makeOverridable f (args // (if isFunction changes then changes args else changes));
      in
      if isAttrs made then made // { inherit override; } else made;

    fetchers.proxyImpureEnvVars =
      let
        names = [ "http_proxy" "https_proxy" "ftp_proxy" "all_proxy" "no_proxy" ];
      in
      names ++ map self.toUpper names ++ [ "NIX_SSL_CERT_FILE" ];
    licenses.mit = {
      shortName = "mit";
      fullName = "MIT License";
      spdxId = "MIT";
      url = "https://spdx.org/licenses/MIT.html";
      free = true;
      redistributable = true;
      deprecated = false;
    };
  };
in
self
