# Builds an OCI image from store paths: `import ./nix/build-image.nix { nixply = ...; } { name = "hello"; ... }`.
#
# With the plugin loaded, the evaluator packs the image (builtins.nixplyImage). Without it, a derivation runs the nixply
# program, which does not depend on the evaluator and also works on a remote builder. Both return the same spec, byte for
# byte. The derivation's result lacks the attributes that only its build determines: `layers`, `imageId` and
# `manifestDigest`. The tag of an image without one is the hash of its result; here that is the derivation's.
#
# The result's `description` is the same JSON without references: see docs/guides/push-without-closure.md. Its `push` is a
# script that pushes the image to a registry.
{
  # Whether to use the plugin's builtin.
  usePlugin ? builtins ? nixplyImage,
  # The attributes of derivation.nix: nixply, builder, args, system, shell.
  ...
}@settings:

{
  # The image's name; registries see it in lower case.
  name,
  # The image's tag. Defaults to the spec's hash.
  tag ? null,
  # OCI image config: Entrypoint, Cmd, Env, User, WorkingDir, ... in any case. The image contains the store paths that it
  # names, and their closures.
  config ? { },
  # Labels, which are added to the config's `Labels`: a set of strings.
  labels ? { },
  # A store path, or a list of them, whose contents are copied to the image's root.
  copyToRoot ? [ ],
  # Layers below the top layer, which has the contents of config and copyToRoot: sets, see "Elements of `layers`" in
  # docs/arguments.md. A layer omits the store paths of all earlier layers, or of those whose indices are in its `parents`.
  layers ? [ ],
  # Indices of the `layers` whose store paths the top layer omits. Defaults to all.
  parents ? null,
  # The maximum number of layers for the store paths that are in none of `layers`.
  maxLayers ? 1,
  # The layer strategy, see docs/strategies.md. Defaults to min-churn, or to explicit with `groups`.
  strategy ? null,
  # Groups of store paths and predicates for the strategy explicit, see docs/arguments.md.
  groups ? null,
  # A file that `nixply plan --lock` writes, for the strategy min-churn: store paths stay in their former layers.
  lock ? null,
  # Owners and modes of files, see docs/arguments.md.
  perms ? [ ],
  # The spec of a base image, whose layers are below all others.
  fromImage ? null,
  # Whether the base image may be for another processor or operating system, for images that contain only data.
  anyPlatform ? false,
  # OCI's name for the processor, with an optional variant, as in arm/v7. Defaults to that of `system`.
  arch ? null,
  # The image's creation time, RFC 3339.
  created ? "0001-01-01T00:00:00Z",
  # The manifest's annotations: a set of strings.
  annotations ? { },
  # Whether the base image's config applies where `config` has no value, like Docker's FROM.
  inheritConfig ? false,
  # Docker's health check, see docs/arguments.md.
  healthcheck ? null,
  # The database for a Nix inside the image: a set with path, which nix-database.nix builds from the image's copyToRoot,
  # layers, config and healthcheck, and with uid and gid, the owner of /nix (defaults to root).
  nixDatabase ? null,
  # The codec, with an optional level as in zstd:9.
  compression ? "none",
  # The maximum number of layers in the whole image.
  layerLimit ? 127,
}@image:

let
  inherit (import ./derivation.nix (removeAttrs settings [ "usePlugin" ]))
    complete
    configFiles
    file
    hashOf
    layerContents
    makeDescribed
    system
    toList
    withPush
    withoutNulls
    ;

  arguments = import ./arguments.nix;

  # The arguments that are not null. The packer checks them as well, but only after Nix has built everything.
  checked = builtins.mapAttrs (name: checks.${name} "nix/build-image.nix" name) (withoutNulls image);
  checks = builtins.mapAttrs (_: check.declared) arguments.image // {
    layers = check.listOf (
      check.setOf {
        required = [ ];
        checks = builtins.mapAttrs (_: check.declared) arguments.layer;
      }
    );
  };
  check = import ./check.nix { };

  request =
    removeAttrs checked [
      "config"
      "healthcheck"
      "tag"
    ]
    // {
      copyToRoot = toList copyToRoot;
      layers = map (layer: layer // layerContents layer) (checked.layers or [ ]);
    }
    # The packer derives the processor from the system.
    // (if arch == null then { inherit system; } else { });

  inherit
    (configFiles {
      config = checked.config or null;
      healthcheck = checked.healthcheck or null;
    })
    configFile
    healthcheckFile
    ;

  drv = makeDescribed [ "description" ] {
    name = builtins.seq imageName (builtins.seq (checked.tag or null) "image-${baseNameOf name}.json");
    inherit request configFile healthcheckFile;
    exportReferencesGraph.closure =
      [ configFile ]
      ++ toList healthcheckFile
      ++ arguments.requestRoots request;
  };

  imageName = arguments.canonicalName name;

  # The arguments as JSON, which `nixply plan` reads to write a lock file.
  requestFile = file "request-${baseNameOf name}.json" (
    removeAttrs request [ "lock" ]
    // withoutNulls {
      inherit healthcheck;
      config = if config == null then { } else config;
    }
  );
in
withPush (
  if usePlugin then
    builtins.nixplyImage (image // { inherit system; }) // { inherit requestFile; }
  else
    complete {
      inherit imageName requestFile;
      imageTag = checked.tag or (hashOf drv);
    } drv
)
