# nix2container.buildImage: an image's spec, image.json, and scripts that copy the image to where it is needed.
{
  lib,
  check,
  usePlugin,
  defaultArch,
  copyScripts,
  buildInDerivation,
  buildNixDatabase,
}:

{
  # The image's name; in lower case it is what registries see.
  name,
  # The tag; without one it is the hash of the result's store path.
  tag ? null,
  # OCI image config: Entrypoint, Cmd, Env, User, WorkingDir, ... in any case. The store paths that it names are in the
  # image, with all that they refer to.
  config ? { },
  # Layers made by buildLayer, from the bottom up. What they have is left out of the last layer.
  layers ? [ ],
  # A store path, or a list of them, whose content lies at the image's root.
  copyToRoot ? null,
  # A base image's spec: pullImage's, pullImageFromManifest's or another buildImage's.
  fromImage ? "",
  # OCI's name for the processor.
  arch ? defaultArch,
  # Owners and modes: sets with path (a store path), regex (Go's, on the path in the store), mode (octal digits), uid, gid,
  # uname, gname. They are for what is in none of `layers`.
  perms ? [ ],
  # At most so many layers for what is in none of `layers`.
  maxLayers ? 1,
  # Whether the image has a Nix database of its store paths, so that Nix can be used in it.
  initializeNixDatabase ? false,
  # Who owns /nix then.
  nixUid ? 0,
  nixGid ? 0,
  # When the image was made, RFC 3339.
  created ? "0001-01-01T00:00:00Z",
  # Given up by nix2container: copyToRoot.
  contents ? null,
  # The derivation's meta.
  meta ? { },

  # What follows is not nix2container's.

  # none, gzip or zstd, with a level as in zstd:9. With a codec the spec has the compressed blobs' digests.
  compression ? "none",
  # How store paths are grouped: popularity, which is nix2container's way and the default, nixply, auto-layer, size, single,
  # per-path, or explicit with `groups`: docs/arguments.md has them.
  strategy ? null,
  groups ? null,
  # The manifest's annotations: a set of strings.
  annotations ? { },
  # Whether what `config` does not say is taken from the base image's, as Docker's FROM has it.
  inheritConfig ? false,
  # Whether the base image may be for another processor or system: one of data alone.
  anyPlatform ? false,
  # Docker's health check: test (a line for the image's shell, or a list), interval, timeout, startPeriod, startInterval
  # (as in "1m30s"), retries.
  healthcheck ? null,
}@given:

let
  function = "buildImage";
  toRoot = check.copyToRoot function { inherit copyToRoot contents; };
  below = check.layers function "layers" layers;

  # Each layer once, what it was built upon ahead of it.
  allLayers = import ./each-once.nix (lib.concatMap (layer: layer.nestedLayers) below ++ below);

  key = layer: builtins.unsafeDiscardStringContext layer.outPath;
  places = builtins.listToAttrs (lib.imap0 (at: layer: lib.nameValuePair (key layer) at) allLayers);
  placeOf = layer: places.${key layer};

  # A layer as it is in the request: its folder, or what is in it where that can be packed here and now. What another
  # tool has made, or what had to be kept, is its folder always.
  prebuilt = layer: { prebuilt = "${(layer.withCompression or (_: layer)) compression}"; };
  planned =
    layer:
    if layer ? request && layer.reproducible then
      layer.request // { parents = map placeOf layer.parentLayers; }
    else
      prebuilt layer;

  database = buildNixDatabase {
    inherit config healthcheck;
    layers = map (
      layer:
      if layer ? request then { inherit (layer.request) deps copyToRoot ignore; } else { prebuilt = "${layer}"; }
    ) allLayers;
    copyToRoot = toRoot;
  };
  withDatabase = check.bool function "initializeNixDatabase" initializeNixDatabase;

  request =
    { layerOf, baseOf }:
    {
      tag = check.null check.string function "tag" tag;
      name = check.string function "name" name;
      config = check.set function "config" config;
      layers = map layerOf allLayers;
      parents = map placeOf below;
      copyToRoot = toRoot;
      perms = check.perms function "perms" perms;
      maxLayers = check.maxLayers function "maxLayers" maxLayers;
      arch = check.string function "arch" arch;
      created = check.string function "created" created;
      compression = check.codec function "compression" compression;
      annotations = check.strings function "annotations" annotations;
      nixDatabase =
        if withDatabase then
          {
            path = database;
            uid = check.id function "nixUid" nixUid;
            gid = check.id function "nixGid" nixGid;
          }
        else
          null;
      inheritConfig = check.bool function "inheritConfig" inheritConfig;
      anyPlatform = check.bool function "anyPlatform" anyPlatform;
      healthcheck = check.null check.healthcheck function "healthcheck" healthcheck;
      fromImage =
        if fromImage == "" || fromImage == null then
          null
        else
          baseOf (check.storePath function "fromImage" fromImage);
    }
    // check.grouping function { inherit strategy groups; };

  # The image in a derivation. With the plugin it is not built; its hash is the tag all the same, for a tag must be known
  # before anything is packed.
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
      inherit (packed) drvPath outPath imageId layers;
    }
    // passthru
    // {
      inherit passthru;
      out = image;
      all = [ image ];
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
    # NAME:TAG without the image as its context: for other tools, which must not rely on the image being there.
    imageRefUnsafe = builtins.unsafeDiscardStringContext "${drv.imageName}:${drv.imageTag}";
  }
  // copyScripts image;
in
image
