# nix2container.buildLayer: a directory with layers.json, for the argument `layers` of buildImage and buildLayer.
{ lib, check, buildLayers }:

{
  # Store paths. The layer contains their closures.
  deps ? [ ],
  # A store path or a list of store paths, whose content is copied to the image's root.
  copyToRoot ? null,
  # A store path to leave out.
  ignore ? null,
  # Layers below this one. This layer leaves out their store paths.
  layers ? [ ],
  # Whether a rebuild produces the same store paths. If false, the result contains the packed layer, so that a push sends exactly
  # that layer.
  reproducible ? true,
  # Owners and modes: sets with path (a store path), regex (Go syntax, matched against the path in the store), mode (octal
  # digits), uid, gid, uname, gname.
  perms ? [ ],
  # The maximum number of layers.
  maxLayers ? 1,
  # Deprecated by nix2container in favour of copyToRoot.
  contents ? null,
  # The layer's entry in the image's history: created, created_by, author, comment.
  metadata ? { created_by = "nix2container"; },
  # How to group store paths into layers, as in build-image.nix. nix2container does not have these arguments.
  strategy ? null,
  groups ? null,
  # A lock file: a set with file, written by `nixply plan --lock`, and image, the name of the image in the file that has these
  # layers. Store paths stay in the layers in which the file records them. It implies strategy min-churn. nix2container does not have
  # this argument.
  lock ? null,
  # The codec, with an optional level as in zstd:9. buildImage requests the layer in its own codec. nix2container does not have this
  # argument.
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
    inherit strategy groups;
    hasLock = lock != null;
  }
  // lib.optionalAttrs (lock != null) { lock = check.lock function "lock" lock; };

  below = check.layers function "layers" layers;

  made =
    compression:
    buildLayers {
      inherit compression;
      layer = request;
      # In the same codec, because an image requests all its layers in one codec. Otherwise a layer would be packed twice.
      below = map (layer: "${(layer.withCompression or (_: layer)) compression}") below;
      reproducible = check.bool function "reproducible" reproducible;
    };

  inCodec =
    codec:
    made (check.codec function "compression" codec)
    // {
      # All layers below this one, each once, after the layers below it.
      nestedLayers = import ./each-once.nix (lib.concatMap (layer: layer.nestedLayers) below ++ below);
      # For buildImage: the same layer in another codec, its description, and the layers directly below it.
      inherit withCompression request reproducible;
      parentLayers = below;
    };

  # Evaluates the layer once per codec, for all layers and images that request it. Otherwise a chain of n layers would cost 2^n
  # evaluations.
  levels = codec: highest: [ codec ] ++ builtins.genList (at: "${codec}:${toString (at + 1)}") highest;
  codecs = lib.genAttrs (
    [ "none" ] ++ lib.concatLists (lib.mapAttrsToList levels (import ../arguments.nix).codecs.levels)
  ) inCodec;
  withCompression = codec: codecs.${codec} or (inCodec codec);
in
withCompression (check.codec function "compression" compression)
