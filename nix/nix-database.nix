# Builds the Nix database of an image as a file tree: `import ./nix/nix-database.nix { nixply = ...; }
# { copyToRoot = [ env ]; }`. Pass the same values as to build-image.nix for the image.
#
# If the tree is copied to the image's root, a Nix inside the image knows the image's store paths and keeps them when it
# collects garbage. The bytes of the tree depend only on those paths. The build needs neither Nix nor SQLite.
#
# The first argument is for derivation.nix: nixply, builder (not "builtin:nixply"), args, system.
program:

{
  # Texts that may name store paths. The image contains these paths and their closures.
  config ? { },
  healthcheck ? null,
  # Store paths whose contents are copied to the image's root. Their references keep their own paths.
  copyToRoot ? [ ],
  # Sets with deps, copyToRoot, ignore, or with prebuilt, the directory that build-layers.nix builds.
  layers ? [ ],
}:

let
  inherit (import ./derivation.nix program) configFiles layerContents layerRoots make toList;

  inherit (configFiles { inherit config healthcheck; }) configFile healthcheckFile;
  files = [ configFile ] ++ toList healthcheckFile;

  own = {
    # The image contains the references of these files, not the files.
    deps = files;
    ignore = files;
    copyToRoot = toList copyToRoot;
  };
  all = map layerContents (toList layers) ++ [ own ];
in
make {
  name = "nix-database";
  nixDatabase.layers = all;
  exportReferencesGraph.closure = layerRoots all;
}
