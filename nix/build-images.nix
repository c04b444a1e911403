# Builds several OCI images and puts the store paths that they have in common into shared layers:
# `import ./nix/build-images.nix { nixply = ...; } { web = { ... }; worker = { ... }; }`. Each image has the arguments of
# build-image.nix. The default of `name` is the name of the attribute. The result has the images under the same names.
#
# With the plugin loaded, the evaluator packs the images (builtins.nixplyImages). Without it, one derivation with an output for
# each image, and one for its description, runs the program nixply. Both return the same specs, byte for byte.
{
  # Whether to use the plugin's builtin.
  usePlugin ? builtins ? nixplyImages,
  # Arguments for derivation.nix: nixply, builder, args, system, shell.
  ...
}@settings:

images:

let
  inherit (builtins) attrNames concatMap mapAttrs;

  alone = mapAttrs (
    name: image: import ./build-image.nix (settings // { usePlugin = false; }) ({ inherit name; } // image)
  ) images;

  inherit (import ./derivation.nix (removeAttrs settings [ "usePlugin" ]))
    file
    hashOf
    makeDescribed
    system
    withPush
    ;

  # The name of an image has no equals sign.
  descriptionOf = name: "${name}=description";

  fleet = makeDescribed (map descriptionOf (attrNames images)) {
    name = "images.json";
    outputs = attrNames images;
    requests = mapAttrs (_: image: {
      inherit (image) request configFile healthcheckFile;
    }) alone;
    exportReferencesGraph.closure = concatMap (name: alone.${name}.exportReferencesGraph.closure) (attrNames alone);
  };

  # The arguments of all images as JSON, which `nixply plan --images` reads to write a lock file.
  requestFile = file "requests.json" (mapAttrs (_: image: image.requestFile.config) alone);

  packed =
    if usePlugin then
      builtins.nixplyImages (mapAttrs (_: image: image // { inherit system; }) images)
    else
      mapAttrs (
        name: image:
        fleet.${name}
        // {
          inherit (image) imageName;
          imageTag = if images.${name}.tag or null != null then image.imageTag else hashOf fleet.${name};
          description = fleet.${descriptionOf name};
          # With this attribute, `nix build` builds this image instead of the first one.
          outputSpecified = true;
        }
      ) alone;
in
mapAttrs (_: image: withPush (image // { inherit requestFile; })) packed
