# The derivations that run the nixply program, and the values that the functions of this directory put into them.
#
# An image, its Nix database and its layers name the same files (`configFiles`), so these must stay equal byte for byte:
# Nix then builds each file once.
{
  # A package with bin/nixply. The plugin does not need it.
  nixply ? null,
  # Program that a derivation runs, and its arguments. On Nix 2.29 and later with the plugin loaded, "builtin:nixply" and
  # [ ] pack inside Nix itself.
  builder ?
    if nixply == null then
      throw "nixply: images built without the plugin, and `requestFile`, need the nixply program: pass its package, as in `import ./nix/build-image.nix { nixply = ...; }`"
    else
      "${nixply}/bin/nixply",
  args ? [ "builder" ],
  # System that builds the derivations.
  system ? builtins.currentSystem,
  # The shell of scripts.
  shell ? "/bin/sh",
}:

rec {
  inherit system;

  # Returns a list: the value itself, no element for null, or the value as the only element.
  toList = value: if builtins.isList value then value else if value == null then [ ] else [ value ];

  inherit (import ./check.nix { }) withoutNulls;

  # The store paths of an element of `layers`: either `prebuilt`, or lists of store paths, such as `deps`.
  layerContents =
    layer:
    if layer.prebuilt or null != null then
      { inherit (layer) prebuilt; }
    else
      builtins.listToAttrs (
        map (name: {
          inherit name;
          value = toList (layer.${name} or [ ]);
        }) layerPathLists
      );

  inherit (import ./arguments.nix) layerPathLists layerRoots;

  # Files with the texts that may name store paths; null without a health check.
  configFiles =
    { config, healthcheck }:
    {
      configFile = file "config.json" (if config == null then { } else config);
      healthcheckFile = if healthcheck == null then null else file "healthcheck.json" healthcheck;
    };

  # Default tag of an image: the hash part of its store path.
  hashOf = drv: builtins.substring 0 32 (baseNameOf (builtins.unsafeDiscardStringContext drv.outPath));

  # Returns a derivation with these attributes, like those of nixpkgs. `drvAttrs` has all of them.
  make =
    attributes:
    complete { } (
      derivation (
        {
          inherit system builder args;
          __structuredAttrs = true;
          # Packing next to the inputs is faster than fetching the result.
          preferLocalBuild = true;
          # The builds of small files take less time than the question whether a binary cache has them.
          allowSubstitutes = false;
        }
        // attributes
      )
    );

  # Like `make`, for images and layers, with additional outputs for their descriptions. Binary caches may provide the results: a
  # machine that gets a description needs none of the inputs.
  makeDescribed =
    descriptions: attributes:
    make (
      attributes
      // {
        outputs = attributes.outputs or [ "out" ] ++ builtins.filter (hasValidName attributes.name) descriptions;
        allowSubstitutes = true;
      }
    );

  # Whether the store path of an output has at most 211 characters after its hash. Without this test, an image with a long name
  # could not be built because of its description.
  hasValidName = name: output: builtins.stringLength "${name}-${output}" <= 211;

  # A JSON file. Its references are the store paths that the value names.
  file = name: content: make { inherit name; config = content; };

  # A package with the shell script bin/NAME.
  script =
    name: text:
    let
      drv = make {
        inherit name;
        script = { inherit name text; };
      };
    in
    drv // { meta = drv.meta // { mainProgram = name; }; };

  # Adds `push` to an image: a script that pushes the image to a registry.
  withPush = image: image // { push = pushScript image; };

  pushScript = import ./push-script.nix { inherit nixply script shell; };

  # Adds the attributes of nixpkgs' derivations (`outputs`, `inputDerivation`, `meta`) and `more` to a derivation and to
  # each of its outputs.
  complete =
    more: drv:
    let
      outputs = drv.drvAttrs.outputs or [ "out" ];
      values = builtins.listToAttrs (
        map (name: {
          inherit name;
          value = drv.${name} // attributes // outputMark name;
        }) outputs
      );
      # With this attribute, `nix build` builds the output instead of those in `meta.outputsToInstall`.
      outputMark = name: if name == builtins.head outputs then { } else { outputSpecified = true; };
      attributes =
        values
        // {
          inherit outputs;
          all = map (name: values.${name}) outputs;
          # Depends on everything that the build needs and on none of its results: `nix-build -A image.inputDerivation`.
          inputDerivation = file "inputDerivation-${drv.name}" drv.drvAttrs;
          meta = metaOf drv;
        }
        // more;
    in
    values.${builtins.head outputs};

  # The meta that nixpkgs gives to every derivation.
  metaOf = drv: {
    inherit (drv) name;
    outputsToInstall = [ (builtins.head (drv.drvAttrs.outputs or [ "out" ])) ];
    available = true;
    broken = false;
    insecure = false;
    unfree = false;
    unsupported = false;
  };
}
