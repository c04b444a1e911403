# The options of one container: `containers.NAME`.
{
  lib,
  # The default of `copyToRoot`.
  projectRoot,
  # The project's name, for the default of a container's `name`: NAME -> text.
  projectName,
  # The entrypoint that enters the environment.
  entrypoint,
  homeDir,
  # Builds a container: NAME -> configuration -> { homeLayer, reference, derivation, indexOf, lockRequest, copyScript, dockerRun }.
  build,
}:

let
  inherit (lib) literalExpression mkOption types;

  arguments = import ../../arguments.nix;
  # A number of layers.
  count = typeOf arguments.image.maxLayers;

  # The type of an option, from the declaration of the argument to which it is passed.
  typeOf =
    declaration:
    {
      boolean = types.bool;
      integer =
        if declaration ? maximum then
          types.ints.between declaration.minimum declaration.maximum
        else
          types.addCheck types.int (value: value >= declaration.minimum);
      list = types.listOf (if declaration ? element then typeOf declaration.element else types.raw);
      set =
        if declaration ? keys then
          types.submodule { options = builtins.mapAttrs (name: optionOf (builtins.elem name declaration.required)) declaration.keys; }
        else
          types.attrsOf types.raw;
      string =
        if declaration ? pattern then
          types.strMatching declaration.pattern // { description = declaration.expected; }
        else
          types.str;
      stringOrList = types.either types.str (types.listOf types.str);
      strings = types.attrsOf types.str;
      storePath = types.pathInStore;
      storePaths = types.either types.pathInStore (types.listOf types.pathInStore);
      enum = types.enum (declaration.values ++ builtins.attrNames declaration.formerValues);
    }
    .${declaration.kind};

  # An option that is passed to an argument. Null means the argument's default.
  optionOf =
    required: declaration:
    let
      type = typeOf declaration;
      # A single store path is a list of one.
      listed = if declaration.kind == "storePaths" then lib.toList else (value: value);
    in
    mkOption (
      {
        inherit (declaration) description;
        type = if required then type else types.nullOr type;
      }
      // lib.optionalAttrs (!required) {
        default = declaration.default or null;
      }
      // lib.optionalAttrs (declaration ? example) {
        example = literalExpression declaration.example;
      }
      // lib.optionalAttrs (declaration ? default) {
        apply = value: listed (if value == null then declaration.default else value);
      }
    );

  # Options that pass to the image unchanged.
  passed = builtins.mapAttrs (
    _: declaration:
    optionOf false (
      declaration // { description = "${declaration.description}\n\ndevenv does not have this option."; }
    )
  ) arguments.containerOptions;

  internal =
    type: description:
    mkOption {
      inherit type description;
      internal = true;
    };

  layer = builtins.mapAttrs (_: optionOf false) arguments.layerOptions // {
    reproducible = mkOption {
      type = types.bool;
      default = true;
      description = "Whether a rebuild produces the same store paths. If false, nixply keeps the packed layer in the store.";
    };
  };
in
types.submodule (
  { name, config, ... }:
  {
    options = passed // {
      name = mkOption {
        type = types.nullOr types.str;
        default = "${projectName name}-${name}";
        defaultText = literalExpression ''"''${config.name}-NAME"'';
        description = "The image's name, without a tag.";
      };
      version = mkOption {
        type = types.nullOr types.str;
        default = "latest";
        description = "The image's tag. If null, the hash of the image.";
      };
      fromImage = mkOption {
        type = types.nullOr types.package;
        default = null;
        example = lib.literalExpression "nix2container.pullImage { imageName = \"alpine\"; imageDigest = \"sha256:...\"; sha256 = \"sha256-...\"; }";
        description = ''
          The base image, whose layers are below all others: a result of `pullImage` or `buildImage`. Both are functions of the module
          argument `nix2container`.
        '';
      };
      copyToRoot = mkOption {
        type = types.nullOr (types.either types.path (types.listOf types.path));
        default = projectRoot;
        defaultText = literalExpression "self";
        example = literalExpression "./dist";
        description = ''
          The content of the container's home directory, `${homeDir}`: a directory, whose entries are copied, a file, or a list of
          these. By default the whole project; null copies nothing. A link to a file is copied as a link.

          Unless the whole project is copied, links at the image's root point to the copied entries: a file `mybinary` in `./dist` is
          both `${homeDir}/mybinary` and `/mybinary`. The link is left out if the image has an entry of that name. An image with a base
          image has no such links.
        '';
      };
      startupCommand = mkOption {
        type = types.nullOr (
          types.oneOf [
            types.str
            types.package
            (types.listOf types.str)
          ]
        );
        default = null;
        example = literalExpression "config.processes.serve.exec";
        description = ''
          The command that the container runs: shell code, the package of a program, or a list of a program and its arguments, which
          are neither split nor expanded. With a custom `entrypoint`, the list is its arguments.
        '';
      };
      entrypoint = mkOption {
        type = types.listOf types.anything;
        default = [ entrypoint ];
        defaultText = literalExpression "[ entrypoint ]";
        description = ''
          The image's entrypoint. The default enters the environment and runs its arguments. A single argument is shell code, in which
          it expands the environment's variables; several arguments are a program and its arguments.
        '';
      };
      workingDir = mkOption {
        type = types.str;
        default = homeDir;
        description = "The container's working directory.";
      };
      registry = mkOption {
        type = types.nullOr types.str;
        default = "docker-daemon:";
        example = "docker://registry.fly.io/";
        description = ''
          The destination of `nixply container copy` without `--registry`: the text before NAME:TAG in skopeo's notation. nixply appends
          NAME:TAG directly, so include a trailing slash where the registry needs one.
        '';
      };
      defaultCopyArgs = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = literalExpression ''[ "--authfile" "\"$HOME/.config/registry.json\"" ]'';
        description = ''
          Arguments of `skopeo copy`; `--copy-args` replaces them. With arguments, skopeo copies the container, also to a registry;
          without them, nixply sends it to the registry itself. Each is shell code, evaluated when the container is copied, so a
          secret never becomes part of the container. Every user of the machine can see the arguments of running programs: pass the
          name of a file that contains the secret.
        '';
      };
      maxLayers = mkOption {
        type = types.nullOr count;
        default = 1;
        description = "The maximum number of layers for the environment. Null means 1.";
      };
      layers = mkOption {
        type = types.listOf (types.submoduleWith { modules = [ { options = layer; } ]; });
        default = [ ];
        description = ''
          Additional layers, below those of the environment. A layer leaves out the store paths of earlier ones. The last element is
          the layer of the home directory, which nixply adds; in the image it is above all other layers, because it changes most often.
        '';
      };
      enableLayerDeduplication = mkOption {
        type = types.bool;
        default = true;
        example = false;
        description = "Whether each of `layers` leaves out the store paths of the layers before it.";
      };
      lock = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = literalExpression "./nixply.lock.json";
        description = ''
          A lock file, which `nixply container lock NAME` creates and updates: the environment's store paths stay in the same layers from
          build to build. It requires the strategy `min-churn`, and has an effect only if `maxLayers` is greater than 1. Several containers
          can use the same file; the store paths that they share are then in the same layers. devenv does not have this option.
        '';
      };
      systems = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = literalExpression ''[ "x86_64-linux" "aarch64-linux" ]'';
        description = ''
          The Nix systems of a multi-platform image. If it is not empty, `nixply container` evaluates the project for each of these systems,
          and builds an image index of the container's images. Nix needs a builder for each system. `derivation` stays the image for the
          system of the evaluation. devenv does not have this option, and its own commands ignore it.
        '';
      };
      isBuilding = mkOption {
        type = types.bool;
        default = false;
        description = "Whether this evaluation builds this container. Set automatically.";
      };
      reference = mkOption {
        type = types.str;
        internal = true;
        readOnly = true;
        description = "NAME:TAG of the image.";
      };
      derivation = internal types.package "The image's specification, as a derivation.";
      indexOf = internal types.raw "Returns the image index of the container's images for its `systems`.";
      lockRequest = mkOption {
        type = types.package;
        internal = true;
        readOnly = true;
        description = "The environment as a request for `nixply plan`, which writes the lock file.";
      };
      copyScript = internal types.package "The script that copies the container: SPEC REGISTRY [ARGUMENT...].";
      dockerRun = internal types.package "The script that runs the container: [ARGUMENT...].";
    };

    config =
      let
        built = build name config;
      in
      {
        layers = [ built.homeLayer ];
        inherit (built) reference lockRequest;
        derivation = lib.mkOptionDefault built.derivation;
        indexOf = lib.mkOptionDefault built.indexOf;
        copyScript = lib.mkOptionDefault built.copyScript;
        dockerRun = lib.mkOptionDefault built.dockerRun;
      };
  }
)
