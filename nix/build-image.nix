# An OCI image from store paths: `import ./nix/build-image.nix { nixply = ...; } { name = "hello"; ... }`.
#
# With the plugin loaded, the image is packed while it is evaluated (builtins.nixplyImage); without it, a derivation runs
# the nixply program, which needs nothing of the evaluator and works on a remote builder, too. Both give the same spec,
# byte for byte. What is not known before the derivation is built is not in its result: `layers`, `imageId` and
# `manifestDigest`; and an image without a tag has the hash of its own result as one, here the derivation's.
{
  # A package with bin/nixply. Not needed with the plugin.
  nixply ? null,
  # What runs in the derivation: a program and its arguments. On Nix 2.29 and later, "builtin:nixply" and [ ] pack inside
  # of Nix itself where it has the plugin loaded.
  builder ?
    if nixply == null then
      throw "nixply: images that are made without the plugin, and requestFile, are made by the nixply program: give its package, as in import ./nix/build-image.nix { nixply = ...; }"
    else
      "${nixply}/bin/nixply",
  args ? [ "builder" ],
  # Whether to use the plugin's builtin.
  usePlugin ? builtins ? nixplyImage,
  # Where derivations are built.
  system ? builtins.currentSystem,
}:

{
  # The image's name; in lower case it is what registries see.
  name,
  # The image's tag; without one it is the spec's hash.
  tag ? null,
  # OCI image config: Entrypoint, Cmd, Env, User, WorkingDir, ... in any case. The store paths that it names are in the image,
  # with all that they refer to.
  config ? { },
  # A store path, or a list of them, whose content lies at the image's root.
  copyToRoot ? [ ],
  # Layers below the one that config and copyToRoot make: sets with deps, copyToRoot, ignore, perms, maxLayers, strategy,
  # groups, lock, metadata; or with prebuilt, the folder that build-layers.nix makes. Each leaves out what an earlier one has, or
  # what those have whose places are in `parents`.
  layers ? [ ],
  # Which of `layers`, by their places, the layer that config and copyToRoot make leaves out what they have of: all.
  parents ? null,
  # At most so many layers for what is in none of `layers`.
  maxLayers ? 1,
  # How they are made: nixply unless it is said, popularity, auto-layer, size, single, per-path, or explicit with `groups`.
  strategy ? null,
  # Groups of store paths and predicates, for explicit: docs/arguments.md has them.
  groups ? null,
  # A file that `nixply plan --lock` makes, for nixply: paths stay in the layers where they were.
  lock ? null,
  # Owners and modes: sets with path, regex, mode, uid, gid, uname, gname.
  perms ? [ ],
  # Another image's spec, whose layers lie below all others.
  fromImage ? null,
  # Whether that image may be for another processor or system: one of data alone.
  anyPlatform ? false,
  # OCI's name for the processor, perhaps with a variant, as in arm/v7; that of `system` without one.
  arch ? null,
  # When the image was made, RFC 3339.
  created ? "0001-01-01T00:00:00Z",
  # The manifest's annotations: a set of strings.
  annotations ? { },
  # Whether what `config` does not say is taken from the base image's, as Docker's FROM has it.
  inheritConfig ? false,
  # Docker's health check: test (a line for the image's shell, or a list), interval, timeout, startPeriod, startInterval
  # (as in "1m30s"), retries.
  healthcheck ? null,
  # The database for a Nix inside of the image: a set with path, which nix-database.nix makes of the image's copyToRoot, layers,
  # config and healthcheck, and with uid and gid, who own /nix (root without them).
  nixDatabase ? null,
  # none, gzip or zstd, with a level as in zstd:9.
  compression ? "none",
  # The most layers in all.
  layerLimit ? 127,
}@image:

let
  toList = value: if builtins.isList value then value else if value == null then [ ] else [ value ];

  # An attribute that is null is one that is not there.
  given = set: removeAttrs set (builtins.filter (name: set.${name} == null) (builtins.attrNames set));

  normalLayer =
    layer:
    if layer.prebuilt or null != null then
      given layer
    else
      given layer
      // {
        deps = toList (layer.deps or [ ]);
        copyToRoot = toList (layer.copyToRoot or [ ]);
        ignore = toList (layer.ignore or [ ]);
      };

  request = given {
    inherit name maxLayers strategy groups lock perms parents fromImage anyPlatform annotations inheritConfig created nixDatabase
      layerLimit arch;
    # The packer knows its processor.
    system = if arch == null then system else null;
    # In the packer's words, before anything is built.
    compression =
      if !builtins.isString compression || builtins.match (import ./codecs.nix).pattern compression != null then
        compression
      else
        throw "nixply: compression ${builtins.toJSON compression} is not valid: expected none, gzip[:1-12] or zstd[:1-19]";
    copyToRoot = toList copyToRoot;
    layers = map normalLayer (if layers == null then [ ] else layers);
  };

  inherit (import ./derivation.nix { inherit builder args system; }) complete file make;

  configFile = file "config.json" (if config == null then { } else config);
  healthcheckFile = if healthcheck == null then null else file "healthcheck.json" healthcheck;

  drv = make {
    name = builtins.seq imageName (builtins.seq (tag == null || checkedTag == tag) "image-${baseNameOf name}.json");
    inherit request configFile healthcheckFile;
    exportReferencesGraph.closure =
      [ configFile ]
      ++ toList healthcheckFile
      ++ request.copyToRoot
      ++ builtins.concatMap (
        layer: if layer ? prebuilt then [ layer.prebuilt ] else layer.deps ++ layer.copyToRoot
      ) request.layers
      ++ toList fromImage
      ++ toList (request.nixDatabase.path or null);
  };

  lower = builtins.replaceStrings
    [ "A" "B" "C" "D" "E" "F" "G" "H" "I" "J" "K" "L" "M" "N" "O" "P" "Q" "R" "S" "T" "U" "V" "W" "X" "Y" "Z" ]
    [ "a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n" "o" "p" "q" "r" "s" "t" "u" "v" "w" "x" "y" "z" ];

  # What registries take, as packer/src/image/reference.rs says it.
  label = "[a-z0-9]([a-z0-9-]*[a-z0-9])?";
  host = "(${label}(\\.${label})*|\\[[0-9a-f:]+])(:[0-9]+)?";
  part = "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*";
  imageName =
    let
      canonical = lower name;
    in
    if builtins.stringLength canonical <= 255 && builtins.match "(${host}/)?${part}(/${part})*" canonical != null then
      canonical
    else
      throw "nixply: image name \"${name}\" is not one that registries take, as \"hello\" or \"ghcr.io/nixply/hello\" are; a tag is an argument of its own";
  checkedTag =
    if builtins.match "[A-Za-z0-9_][A-Za-z0-9_.-]*" tag != null && builtins.stringLength tag <= 128 then
      tag
    else
      throw "nixply: tag \"${tag}\" is not one that registries take: 1 to 128 letters, digits, '_', '.' and '-', and neither '.' nor '-' comes first";

  # The arguments as JSON, which `nixply plan` takes: for the lock file.
  requestFile = file "request-${baseNameOf name}.json" (
    removeAttrs request [ "lock" ]
    // given {
      inherit healthcheck;
      config = if config == null then { } else config;
    }
  );
in
if usePlugin then
  builtins.nixplyImage (image // { inherit system; }) // { inherit requestFile; }
else
  complete {
    inherit imageName requestFile;
    imageTag =
      if tag != null then
        checkedTag
      else
        builtins.substring 0 32 (baseNameOf (builtins.unsafeDiscardStringContext drv.outPath));
  } drv
