# The database of the Nix store that an image has, as a file tree: `import ./nix/nix-database.nix { nixply = ...; }
# { copyToRoot = [ env ]; }`. The arguments are those of the image's build-image.nix.
#
# Where the tree's content lies at the image's root, a Nix inside of it knows the store paths that it has, and keeps them when
# it collects garbage. The bytes depend on those paths alone. Neither Nix nor SQLite is needed to build it.
{
  # A package with bin/nixply.
  nixply ? null,
  # What runs in the derivation, as in build-image.nix; not "builtin:nixply".
  builder ? "${nixply}/bin/nixply",
  args ? [ "builder" ],
  # Where it is built.
  system ? builtins.currentSystem,
}:

{
  # Texts that may name store paths, which are in the image then, with all that they refer to.
  config ? { },
  healthcheck ? null,
  # Store paths whose content lies at the image's root. What they refer to is at its place.
  copyToRoot ? [ ],
  # Sets with deps, copyToRoot, ignore, or with prebuilt, the folder that build-layers.nix makes.
  layers ? [ ],
}:

let
  toList = value: if builtins.isList value then value else if value == null then [ ] else [ value ];

  inherit (import ./derivation.nix { inherit builder args system; }) file make;

  # As in build-image.nix, so these are built once.
  files = [
    (file "config.json" (if config == null then { } else config))
  ]
  ++ (if healthcheck == null then [ ] else [ (file "healthcheck.json" healthcheck) ]);

  contents =
    layer:
    if layer.prebuilt or null != null then
      { inherit (layer) prebuilt; }
    else
      {
        deps = toList (layer.deps or [ ]);
        copyToRoot = toList (layer.copyToRoot or [ ]);
        ignore = toList (layer.ignore or [ ]);
      };

  own = {
    # The files themselves are not in the image, what they refer to is.
    deps = files;
    ignore = files;
    copyToRoot = toList copyToRoot;
  };
  all = map contents (toList layers) ++ [ own ];
in
make {
  name = "nix-database";
  nixDatabase.layers = all;
  exportReferencesGraph.closure = builtins.concatMap (
    layer: if layer ? prebuilt then [ layer.prebuilt ] else layer.deps ++ layer.copyToRoot
  ) all;
}
