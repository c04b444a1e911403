# A stand-in for nixpkgs' lib with the functions that this repository uses, see README.md. The module system is in the files
# next to this one.
let
  inherit (builtins)
    concatMap concatStringsSep elem filter foldl' fromJSON genList head isAttrs isFunction isList isString listToAttrs
    match replaceStrings stringLength substring
    ;

  characters = text: genList (at: substring at 1 text) (stringLength text);
  lower = characters "abcdefghijklmnopqrstuvwxyz";
  upper = characters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  special = characters "\\[{()^$?*+|.";

  functions = {
    inherit (builtins)
      addErrorContext all any attrNames attrValues catAttrs concatLists concatMap concatStringsSep deepSeq elem elemAt
      filter foldl' fromJSON genList genericClosure groupBy hasAttr hasContext head intersectAttrs isAttrs isBool isFloat
      isInt isList isPath isString length lessThan listToAttrs map mapAttrs match partition pathExists readDir readFile
      removeAttrs replaceStrings seq sort split storeDir stringLength substring tail throw toJSON toString trace tryEval
      typeOf unsafeGetAttrPos zipAttrsWith
      ;

    id = value: value;
    # Sets with __functor are functions.
    isFunction = value: isFunction value || value ? __functor && self.isFunction (value.__functor value);
    functionArgs =
      f: if f ? __functor then f.__functionArgs or (self.functionArgs (f.__functor f)) else builtins.functionArgs f;
    min = one: other: if one < other then one else other;
    max = one: other: if one > other then one else other;
    "or" = one: other: one || other;
    "and" = one: other: one && other;
    isType = type: value: value._type or null == type;
    boolToString = value: if value then "true" else "false";

    # Lists.
    toList = value: if isList value then value else [ value ];
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    unique = foldl' (known: value: if elem value known then known else known ++ [ value ]) [ ];
    foldr =
      f: start: list:
      if list == [ ] then start else f (head list) (self.foldr f start (builtins.tail list));
    count = wanted: list: builtins.length (filter wanted list);
    sublist =
      start: count: list:
      genList (at: builtins.elemAt list (start + at)) (
        self.max 0 (self.min count (builtins.length list - start))
      );
    take = self.sublist 0;
    drop = count: list: self.sublist count (builtins.length list) list;
    reverseList =
      list:
      let
        end = builtins.length list - 1;
      in
      genList (at: builtins.elemAt list (end - at)) (end + 1);
    sortOn =
      key: list:
      map (pair: builtins.elemAt pair 1) (
        builtins.sort (one: other: head one < head other) (map (value: [ (key value) value ]) list)
      );
    remove = unwanted: filter (value: value != unwanted);
    intersectLists = one: filter (value: elem value one);
    imap1 = f: self.imap0 (at: f (at + 1));
    imap0 = f: list: genList (at: f at (builtins.elemAt list at)) (builtins.length list);
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
    attrByPath =
      path: default: set:
      if path == [ ] then
        set
      else if isAttrs set && set ? ${head path} then
        self.attrByPath (builtins.tail path) default set.${head path}
      else
        default;
    getAttrFromPath =
      path: self.attrByPath path (abort "cannot find attribute '${concatStringsSep "." path}'");
    setAttrByPath = path: value: self.foldr (name: inner: { ${name} = inner; }) value path;
    collect =
      wanted: set:
      if wanted set then
        [ set ]
      else if isAttrs set then
        concatMap (self.collect wanted) (builtins.attrValues set)
      else
        [ ];
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
    escape = list: replaceStrings list (map (character: "\\${character}") list);
    hasInfix = inner: text: match ".*${self.escapeRegex inner}.*" text != null;
    isStringLike = value: isString value || builtins.isPath value || value ? outPath || value ? __toString;
    isConvertibleWithToString =
      value:
      self.isStringLike value
      || elem (builtins.typeOf value) [ "null" "int" "float" "bool" ]
      || isList value && builtins.all self.isConvertibleWithToString value;
    isStorePath =
      value:
      self.isStringLike value
      && (
        let
          text = toString value;
        in
        substring 0 1 text == "/"
        && (builtins.dirOf text == builtins.storeDir || match "/[0-9a-z]{52}" text != null)
      );
    escapeNixString = text: self.escape [ "$" ] (builtins.toJSON text);
    escapeNixIdentifier =
      text:
      if
        match "[a-zA-Z_][a-zA-Z0-9_'-]*" text != null
        && !elem text [ "assert" "else" "if" "in" "inherit" "let" "or" "rec" "then" "with" ]
      then
        text
      else
        self.escapeNixString text;
    # The edit distance of two texts.
    levenshtein =
      one: other:
      let
        before = at: text: substring (at - 1) 1 text;
        table = genList (i: genList (distance i) (stringLength other + 1)) (stringLength one + 1);
        known = i: j: builtins.elemAt (builtins.elemAt table i) j;
        distance =
          i: j:
          if i == 0 || j == 0 then
            i + j
          else
            self.min (self.min (known (i - 1) j + 1) (known i (j - 1) + 1)) (
              known (i - 1) (j - 1) + (if before i one == before j other then 0 else 1)
            );
      in
      known (stringLength one) (stringLength other);
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
    versionOlder = one: other: builtins.compareVersions other one == 1;

    # Messages.
    warn = builtins.warn or (message: builtins.trace "evaluation warning: ${message}");
    warnIf = condition: message: if condition then self.warn message else self.id;
    throwIf = condition: message: if condition then throw message else self.id;

    # Packages.
    isDerivation = value: value.type or null == "derivation";
    getBin = package: package.bin or package.out or package;
    addMetaAttrs = new: package: package // { meta = package.meta or { } // new; };
    setPrio = priority: self.addMetaAttrs { inherit priority; };
    hiPrio = self.setPrio (-10);
    getOutput = output: package: package.${output} or package.out or package;
    lazyDerivation =
      args@{ derivation, meta ? null, passthru ? { }, outputs ? [ "out" ] }:
      let
        checked =
          if !self.isDerivation derivation then
            throw "lazyDerivation: input must be a derivation."
          else if derivation.outputs != outputs then
            throw "lib.lazyDerivation: The derivation ${derivation.name} has outputs that don't match the assumed outputs."
          else
            derivation;
      in
      {
        type = "derivation";
        inherit (checked) outPath outputName drvPath name system;
        inherit outputs;
        meta = args.meta or checked.meta;
      }
      // self.genAttrs outputs (output: checked.${output})
      // passthru;
    # A package for an existing store path.
    toDerivation =
      path:
      let
        outPath = builtins.storePath path;
        package = {
          type = "derivation";
          name = builtins.unsafeDiscardStringContext (substring 33 (-1) (baseNameOf outPath));
          inherit outPath;
          outputs = [ "out" ];
          out = package;
          outputName = "out";
        };
      in
      package;
    getExe = package: self.getExe' package (package.meta.mainProgram or package.pname or package.name);
    getExe' = package: program: "${self.getBin package}/bin/${program}";
    makeSearchPath = directory: self.concatMapStringsSep ":" (package: "${package}/${directory}");
    makeSearchPathOutput =
      output: directory: packages:
      self.makeSearchPath directory (map (self.getOutput output) packages);
    makeBinPath = self.makeSearchPathOutput "bin" "bin";
    # The result of `f args`, with a function `override` that changes the arguments.
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

  module = file: import file { lib = self; };
  flat =
    functions // module ./options.nix // module ./properties.nix // module ./modules.nix;

  # nixpkgs sorts the functions into these sets; here each set has all of them.
  self = flat // {
    inherit (module ./generators.nix) generators;
    types = module ./types.nix;
    inherit (self.types) mkOptionType;
    lists = flat;
    modules = flat;
    strings = flat;
  };
in
self
