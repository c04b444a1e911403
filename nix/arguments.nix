# Facts about the arguments of an image: their kinds, the store paths among them, the names of strategies and codecs.
# `cargo xtask docs` writes arguments.json from the packer's declarations.
let
  facts = builtins.fromJSON (builtins.readFile ./arguments.json);

  toList = value: if builtins.isList value then value else if value == null then [ ] else [ value ];

  # The value at an attribute path, or null.
  valueAt = builtins.foldl' (
    value: name: if builtins.isAttrs value then value.${name} or null else null
  );

  rootsAt = paths: set: builtins.concatMap (path: toList (valueAt set path)) paths;

  # Store paths whose closures the program needs to build these layers, for exportReferencesGraph.
  layerRoots = builtins.concatMap (rootsAt facts.roots.layer);
in
facts
// {
  inherit layerRoots;

  # Store paths whose closures the program needs to build the image of a request, except those in its config.
  requestRoots = request: rootsAt facts.roots.image request ++ layerRoots request.layers;
}
