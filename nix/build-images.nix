# Several OCI images that share layers wherever they share store paths: `import ./nix/build-images.nix { nixply = ...; } { web = { ... };
# worker = { ... }; }`. Each image has the arguments of build-image.nix; its name is that of its attribute without one. The result
# has the images by the same names.
#
# With the plugin loaded, they are packed while they are evaluated (builtins.nixplyImages); without it, one derivation with an
# output for each image runs the nixply program. Both give the same specs, byte for byte.
{
  # As in build-image.nix.
  nixply ? null,
  builder ?
    if nixply == null then
      throw "nixply: images that are made without the plugin, and requestFile, are made by the nixply program: give its package, as in import ./nix/build-images.nix { nixply = ...; }"
    else
      "${nixply}/bin/nixply",
  args ? [ "builder" ],
  usePlugin ? builtins ? nixplyImages,
  system ? builtins.currentSystem,
}:

images:

let
  inherit (builtins) attrNames concatMap mapAttrs;

  alone = mapAttrs (
    name: image:
    import ./build-image.nix {
      inherit nixply builder args system;
      usePlugin = false;
    } ({ inherit name; } // image)
  ) images;

  inherit (import ./derivation.nix { inherit builder args system; }) file make;

  fleet = make {
    name = "images.json";
    outputs = attrNames images;
    requests = mapAttrs (_: image: {
      inherit (image) request configFile healthcheckFile;
    }) alone;
    exportReferencesGraph.closure = concatMap (name: alone.${name}.exportReferencesGraph.closure) (attrNames alone);
  };

  # All images' arguments as JSON, which `nixply plan --images` takes: for the lock file.
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
          imageTag =
            if images.${name}.tag or null != null then
              image.imageTag
            else
              builtins.substring 0 32 (baseNameOf (builtins.unsafeDiscardStringContext fleet.${name}.outPath));
        }
      ) alone;
in
mapAttrs (_: image: image // { inherit requestFile; }) packed
