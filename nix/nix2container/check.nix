# The checks of nix2container's functions: those of ../check.nix, with suggestions, store paths, and nix2container's own arguments.
{ lib }:

let
  arguments = import ../arguments.nix;

  # The known names that are most similar.
  suggestion =
    name: names:
    let
      distance = lib.strings.levenshtein name;
      least = builtins.foldl' (least: other: lib.min least (distance other)) 2 names;
      near = builtins.filter (other: distance other <= least) names;
    in
    lib.optionalString (
      near != [ ]
    ) "; did you mean ${builtins.concatStringsSep " or " (map (other: "`${other}`") near)}?";

  generic = import ../check.nix {
    inherit suggestion;
    inherit (self) storePath;
    storePaths = self.oneOrMany;
  };
  inherit (generic)
    declared
    listOf
    that
    unknownAttribute
    withoutNulls
    ;

  isStorePath =
    value:
    builtins.isPath value
    || (builtins.isAttrs value && (value ? outPath || value ? __toString))
    || (builtins.isString value && (builtins.hasContext value || lib.hasPrefix "${builtins.storeDir}/" value));

  self = {
    inherit (generic) string;
    bool = generic.boolean;
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
        given = withoutNulls set;
        unknown = builtins.attrNames (removeAttrs given (builtins.attrNames declarations));
        # Sorted, without duplicates.
        known = builtins.attrNames (lib.genAttrs (formals ++ builtins.attrNames declarations) (_: null));
        strategy =
          if given ? groups then
            arguments.explicitStrategy
          else if given ? lock then
            arguments.lockStrategy
          else
            "popularity";
      in
      if unknown != [ ] then
        unknownAttribute function "argument `${builtins.head unknown}`" (builtins.head unknown) known
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
