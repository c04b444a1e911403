# nix2container has no indexes. buildIndex makes the spec of an image index from results of buildImage and pullImage, and scripts that
# copy the index.
{
  lib,
  usePlugin,
  copyScripts,
  pushScript,
  # nix/build-index.nix, without the plugin.
  buildInDerivation,
}:

{
  # The arguments are those of nix/build-index.nix.
  name,
  images,
  tag ? null,
  annotations ? { },
}@arguments:

let
  # As buildImage does: with the plugin, the derivation is never built, but its hash is the default tag in both cases.
  isImage = value: value ? outPath || value ? __toString;
  inDerivation =
    image:
    if builtins.isAttrs image && !isImage image then
      image // { image = inDerivation image.image; }
    else
      image.inDerivation or image;
  drv = buildInDerivation (
    arguments // lib.optionalAttrs (builtins.isList images) { images = map inDerivation images; }
  );
  packed = builtins.nixplyIndex arguments;

  index =
    drv
    // lib.optionalAttrs usePlugin {
      inherit (packed) drvPath outPath images description;
    }
    // passthru
    // {
      inherit passthru;
      out = index;
      all = map (output: index.${output}) drv.outputs;
      inDerivation = drv;
    };

  passthru = {
    isIndex = true;
    inherit (drv) imageName imageTag;
    # NAME:TAG without string context. A user of this text does not depend on the index, so the index may not be built.
    imageRefUnsafe = builtins.unsafeDiscardStringContext "${drv.imageName}:${drv.imageTag}";
    push = pushScript index;
  }
  // copyScripts index;
in
index
