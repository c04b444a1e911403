# nix2container.buildImage: the spec of an image, image.json, and scripts that copy the image.
{
  lib,
  check,
  usePlugin,
  defaultArch,
  copyScripts,
  # Makes the script that pushes an image without skopeo, which nix2container does not have.
  pushScript,
  buildInDerivation,
  buildNixDatabase,
}:

let
  buildImage =
{
  # The image's name. Registries get it in lower case.
  name,
  # The tag. The default is the hash of the result's store path.
  tag ? null,
  # OCI image config: Entrypoint, Cmd, Env, User, WorkingDir, ...; keys are case-insensitive. The image contains the closures of
  # all store paths in it.
  config ? { },
  # Layers from buildLayer, from the bottom up. The image's last layer leaves out their store paths.
  layers ? [ ],
  # A store path or a list of store paths, whose content is copied to the image's root.
  copyToRoot ? null,
  # The base image: a result of pullImage, pullImageFromManifest or buildImage.
  fromImage ? "",
  # The CPU architecture, by its OCI name.
  arch ? defaultArch,
  # Owners and modes of files outside of `layers`, see docs/arguments.md.
  perms ? [ ],
  # The maximum number of layers for store paths outside of `layers`.
  maxLayers ? 1,
  # Whether to add a Nix database of the image's store paths, so that Nix works in the container.
  initializeNixDatabase ? false,
  # The owner of /nix if there is a Nix database.
  nixUid ? 0,
  nixGid ? 0,
  # The image's creation time, in RFC 3339 format.
  created ? "0001-01-01T00:00:00Z",
  # Deprecated by nix2container in favour of copyToRoot.
  contents ? null,
  # The derivation's meta.
  meta ? { },

  # All other arguments of an image, which nix2container does not have: see docs/arguments.md. The default of `strategy` is
  # popularity, nix2container's strategy.
  ...
}@given:

let
  function = "buildImage";

  # The arguments that the packer reads as the user passes them.
  arguments =
    check.arguments function
      {
        # `arch` and the function's package set determine the system.
        declarations = removeAttrs (import ../arguments.nix).image [ "system" ];
        formals = builtins.attrNames (builtins.functionArgs buildImage);
      }
      (
        removeAttrs given [
          "name"
          "layers"
          "copyToRoot"
          "contents"
          "fromImage"
          "initializeNixDatabase"
          "nixUid"
          "nixGid"
          "meta"
        ]
        // {
          arch = if arch == null then defaultArch else arch;
        }
      );
  codec = arguments.compression or "none";

  toRoot = check.copyToRoot function { inherit copyToRoot contents; };
  below = check.layers function "layers" layers;

  # Each layer once, after the layers that it was built on.
  allLayers = import ./each-once.nix (lib.concatMap (layer: layer.nestedLayers) below ++ below);

  key = layer: builtins.unsafeDiscardStringContext layer.outPath;
  places = builtins.listToAttrs (lib.imap0 (at: layer: lib.nameValuePair (key layer) at) allLayers);
  placeOf = layer: places.${key layer};

  # A layer in the request: its directory, or its description if the plugin can pack it during evaluation. Layers from other tools
  # and non-reproducible layers are always given by their directories.
  prebuilt = layer: { prebuilt = "${(layer.withCompression or (_: layer)) codec}"; };
  planned =
    layer:
    if layer ? request && layer.reproducible then
      layer.request // { parents = map placeOf layer.parentLayers; }
    else
      prebuilt layer;

  database = buildNixDatabase {
    inherit config;
    healthcheck = arguments.healthcheck or null;
    layers = map (layer: layer.request or { prebuilt = "${layer}"; }) allLayers;
    copyToRoot = toRoot;
  };
  withDatabase = check.bool function "initializeNixDatabase" initializeNixDatabase;

  request =
    { layerOf, baseOf }:
    {
      name = check.string function "name" name;
      layers = map layerOf allLayers;
      parents = map placeOf below;
      copyToRoot = toRoot;
      nixDatabase =
        if withDatabase then
          {
            path = database;
            uid = check.id function "nixUid" nixUid;
            gid = check.id function "nixGid" nixGid;
          }
        else
          null;
      fromImage =
        if fromImage == "" || fromImage == null then
          null
        else
          baseOf (check.storePath function "fromImage" fromImage);
    }
    // arguments;

  # The derivation that builds the image. With the plugin it is never built, but its hash is the default tag in both cases,
  # because the tag must be known before packing starts.
  drv = buildInDerivation (request {
    layerOf = prebuilt;
    baseOf = base: base.inDerivation or base;
  });
  packed = builtins.nixplyImage (request {
    layerOf = planned;
    baseOf = base: base;
  });

  image =
    drv
    // lib.optionalAttrs usePlugin {
      inherit (packed) drvPath outPath imageId layers description;
    }
    // passthru
    // {
      inherit passthru;
      out = image;
      all = map (output: image.${output}) drv.outputs;
      meta =
        let
          position = builtins.unsafeGetAttrPos "name" given;
        in
        drv.meta
        // lib.optionalAttrs (position != null) { position = "${position.file}:${toString position.line}"; }
        // meta;
      inDerivation = drv;
    };

  passthru = {
    inherit fromImage;
    inherit (drv) imageName imageTag;
    # NAME:TAG without string context. A user of this text does not depend on the image, so the image may not be built.
    imageRefUnsafe = builtins.unsafeDiscardStringContext "${drv.imageName}:${drv.imageTag}";
    push = pushScript image;
  }
  // copyScripts image;
in
image;
in
buildImage
