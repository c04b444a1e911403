# Builds layers separately from an image: `import ./nix/build-layers.nix { nixply = ...; } { layer.deps = [ hello ]; }`.
#
# The result is a directory with layers.json. build-image.nix accepts it as an element `{ prebuilt = ...; }` of its `layers`.
# Its `description` is a file with the JSON of layers.json, but without references.
#
# The first argument has the attributes of derivation.nix: nixply, builder, args, system.
program:

{
  # The contents: an element of build-image.nix's `layers`, with lists for deps, copyToRoot and ignore.
  layer,
  # Directories that this function returned for the layers below. These layers omit their store paths.
  below ? [ ],
  # The codec, with an optional level as in zstd:9.
  compression ? "none",
  # Whether another build of the store paths results in the same layers. Other layers are kept in the directory, so that a
  # push can read them.
  reproducible ? true,
}:

let
  inherit (import ./derivation.nix program) layerRoots makeDescribed;
in
makeDescribed [ "description" ] {
  name = "layers.json";
  layers = { inherit layer below compression reproducible; };
  exportReferencesGraph.closure = layerRoots [ layer ];
}
