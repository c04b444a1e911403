# Builds the spec of an image index, for several platforms, from the specs of its images:
# `import ./nix/build-index.nix { nixply = ...; } { name = "hello"; images = [ amd64 arm64 ]; }`.
#
# With the plugin loaded, the evaluator makes the index (builtins.nixplyIndex). Without it, a derivation runs the nixply program.
# Both return the same spec, byte for byte. The derivation's result lacks the attributes that only its build determines: `images`
# and `manifestDigest`. Nix builds an image of another system like any derivation of it, for example with a remote builder.
{
  # Whether to use the plugin's builtin.
  usePlugin ? builtins ? nixplyIndex,
  # The attributes of derivation.nix: nixply, builder, args, system, shell.
  ...
}@settings:

{
  # The index's name; registries see it in lower case.
  name,
  # The index's tag. Defaults to the spec's hash.
  tag ? null,
  # The images: results of build-image.nix, builtins.nixplyImage, buildImage or pullImage, or sets
  # `{ image = ...; annotations = { ... }; }`, whose annotations are those of the image's manifest in the index.
  images,
  # The index's annotations: a set of strings.
  annotations ? { },
}@arguments:

let
  inherit (import ./derivation.nix (removeAttrs settings [ "usePlugin" ])) complete hashOf makeDescribed withoutNulls withPush;

  inherit (import ./arguments.nix) canonicalName index;
  check = import ./check.nix { };

  # The arguments that are not null.
  checked = builtins.mapAttrs (argument: checks.${argument} "nix/build-index.nix" argument) (withoutNulls arguments);
  checks = builtins.mapAttrs (_: check.declared) index // {
    images = check.listOf image;
  };
  # An element of `images`: an image itself has `outPath`.
  image =
    function: place: value:
    if builtins.isAttrs value && !(isImage value) then
      check.setOf {
        required = [ "image" ];
        checks = {
          image = _: _: path: path;
          annotations = check.declared index.annotations;
        };
      } function place value
    else
      value;

  specOf = image: if builtins.isAttrs image && !(isImage image) then image.image else image;
  isImage = value: value ? outPath || value ? __toString;

  drv = makeDescribed [ "description" ] {
    name = builtins.seq imageName (builtins.seq (checked.tag or null) "index-${baseNameOf name}.json");
    index = removeAttrs checked [ "tag" ];
    exportReferencesGraph.closure = map specOf checked.images;
  };

  imageName = canonicalName name;
in
withPush (
  if usePlugin then
    builtins.nixplyIndex arguments
  else
    complete {
      inherit imageName;
      imageTag = checked.tag or (hashOf drv);
    } drv
)
