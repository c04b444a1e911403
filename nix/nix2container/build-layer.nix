# nix2container.buildLayer: a folder with layers.json, for the `layers` of buildImage and of other layers.
{ lib, check, buildLayers }:

{
  # Store paths, which are in the layer with all that they refer to.
  deps ? [ ],
  # A store path, or a list of them, whose content lies at the image's root.
  copyToRoot ? null,
  # A store path to leave out.
  ignore ? null,
  # Layers whose store paths are left out. They come to lie below this one.
  layers ? [ ],
  # Whether another build would make the same store paths. If not, the layer is kept, so that it can be pushed as it is.
  reproducible ? true,
  # Owners and modes: sets with path (a store path), regex (Go's, on the path in the store), mode (octal digits), uid, gid,
  # uname, gname.
  perms ? [ ],
  # At most so many layers.
  maxLayers ? 1,
  # Given up by nix2container: copyToRoot.
  contents ? null,
  # The layer's entry in the image's history: created, created_by, author, comment.
  metadata ? { created_by = "nix2container"; },
  # How store paths are grouped, as in build-image.nix. Not nix2container's.
  strategy ? null,
  groups ? null,
  # For strategy nixply, which it stands for: a set with file, which `nixply plan --lock` makes, and image, the name of the image whose layers in it
  # are these. Paths stay in the layers where they were. Not nix2container's.
  lock ? null,
  # none, gzip or zstd, with a level. buildImage asks for its own. Not nix2container's.
  compression ? "none",
}:

let
  function = "buildLayer";
  toRoot = check.copyToRoot function { inherit copyToRoot contents; };

  request = {
    deps = check.storePaths function "deps" deps;
    copyToRoot = toRoot;
    ignore = check.oneOrMany function "ignore" ignore;
    perms = check.perms function "perms" perms;
    maxLayers = check.maxLayers function "maxLayers" maxLayers;
    metadata = check.metadata function "metadata" metadata;
  }
  // check.grouping function {
    # A lock file is for one strategy.
    strategy = if strategy == null && groups == null && lock != null then "nixply" else strategy;
    inherit groups;
  }
  // lib.optionalAttrs (lock != null) { lock = check.lock function "lock" lock; };

  below = check.layers function "layers" layers;

  made =
    compression:
    buildLayers {
      inherit compression;
      layer = request;
      # In the same codec: an image asks for one, and nothing is packed twice.
      below = map (layer: "${(layer.withCompression or (_: layer)) compression}") below;
      reproducible = check.bool function "reproducible" reproducible;
    };

  inCodec =
    codec:
    made (check.codec function "compression" codec)
    // {
      # All layers below this one, each once: a layer's own come ahead of it.
      nestedLayers = import ./each-once.nix (lib.concatMap (layer: layer.nestedLayers) below ++ below);
      # For buildImage: the same layer in another codec; what is in it, and what it was built upon.
      inherit withCompression request reproducible;
      parentLayers = below;
    };

  # Each is evaluated once, however many layers and images ask for it: else a chain of layers would cost 2^n evaluations.
  levels = codec: highest: [ codec ] ++ builtins.genList (at: "${codec}:${toString (at + 1)}") highest;
  codecs = lib.genAttrs (
    [ "none" ] ++ lib.concatLists (lib.mapAttrsToList levels (import ../codecs.nix).levels)
  ) inCodec;
  withCompression = codec: codecs.${codec} or (inCodec codec);
in
withCompression (check.codec function "compression" compression)
