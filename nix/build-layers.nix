# Layers on their own, in a derivation: `import ./nix/build-layers.nix { nixply = ...; } { layer.deps = [ hello ]; }`.
#
# The result is a folder with layers.json, which build-image.nix takes as an element `{ prebuilt = ...; }` of its `layers`.
{
  # A package with bin/nixply.
  nixply ? null,
  # What runs in the derivation, as in build-image.nix.
  builder ? "${nixply}/bin/nixply",
  args ? [ "builder" ],
  # Where it is built.
  system ? builtins.currentSystem,
}:

{
  # What is in them: an element of build-image.nix's `layers` with lists for deps, copyToRoot and ignore.
  layer,
  # Folders with the layers below, whose paths these leave out.
  below ? [ ],
  # none, gzip or zstd, with a level as in zstd:9.
  compression ? "none",
  # Whether the layers can be made again from their store paths when they are pushed; if not, they are kept in the folder.
  reproducible ? true,
}:

(import ./derivation.nix { inherit builder args system; }).make {
  name = "layers.json";
  layers = { inherit layer below compression reproducible; };
  exportReferencesGraph.closure = layer.deps or [ ] ++ layer.copyToRoot or [ ];
}
