# nix2container.buildLayer: a directory with layers.json, for the argument `layers` of buildImage and buildLayer.
{ lib, check, buildLayers }:

let
  arguments = import ../arguments.nix;

  buildLayer =
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
  # Owners and modes of files, see docs/arguments.md.
  perms ? [ ],
  # The maximum number of layers.
  maxLayers ? 1,
  # Deprecated by nix2container in favour of copyToRoot.
  contents ? null,
  # The layer's entry in the image's history, see docs/arguments.md.
  metadata ? { created_by = "nix2container"; },
  # The codec, with an optional level. buildImage requests the layer in its own codec. nix2container does not have this argument.
  compression ? "none",
  # All other arguments of a layer, which nix2container does not have: see docs/arguments.md. The default of `strategy` is
  # popularity, nix2container's strategy.
  ...
}@given:

let
  function = "buildLayer";
  toRoot = check.copyToRoot function { inherit copyToRoot contents; };

  # The arguments for the packer. `layers` determines `parents`.
  request =
    check.arguments function
      {
        declarations = removeAttrs arguments.layer [
          "parents"
          "prebuilt"
        ];
        formals = builtins.attrNames (builtins.functionArgs buildLayer);
      }
      (
        removeAttrs given [
          "layers"
          "contents"
          "reproducible"
          "compression"
        ]
        // {
          copyToRoot = toRoot;
          # nix2container reads null as an entry without any text.
          metadata = if metadata == null then { } else metadata;
        }
      );

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
    [ "none" ] ++ lib.concatLists (lib.mapAttrsToList levels arguments.codecLevels)
  ) inCodec;
  withCompression = codec: codecs.${codec} or (inCodec codec);
in
withCompression (check.codec function "compression" compression);
in
buildLayer
