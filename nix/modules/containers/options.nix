# The options of one container: `containers.NAME`.
{
  lib,
  # What a container copies unless it says otherwise.
  projectRoot,
  # The name of the project, for a container that has none of its own: NAME -> text.
  projectName,
  # The entrypoint that enters the environment.
  entrypoint,
  homeDir,
  # What is made of a container's configuration: { homeLayer, reference, derivation, lockRequest, copyScript, dockerRun }.
  build,
}:

let
  inherit (lib) literalExpression mkOption types;

  codecs = import ../../codecs.nix;
  codec = types.strMatching codecs.pattern // {
    inherit (codecs) description;
  };
  strategies = import ../../strategies.nix;
  # A number of layers.
  count = types.ints.positive;

  rule = {
    path = mkOption {
      type = types.pathInStore;
      description = "The store path that it is for.";
    };
    regex = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = ".*";
      description = "Which files it is for: a regular expression in Go's syntax, matched on the path in the store. All without one.";
    };
    mode = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "644";
      description = "The files' mode, in octal digits.";
    };
    uid = mkOption {
      type = types.nullOr types.int;
      default = null;
      example = 1000;
      description = "The owner's id.";
    };
    gid = mkOption {
      type = types.nullOr types.int;
      default = null;
      example = 1000;
      description = "The group's id.";
    };
    uname = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "root";
      description = "The owner's name.";
    };
    gname = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "root";
      description = "The group's name.";
    };
  };

  layer = {
    deps = mkOption {
      type = types.listOf types.package;
      default = [ ];
      description = "Store paths, which are in the layer with all that they refer to.";
    };
    copyToRoot = mkOption {
      type = types.listOf types.package;
      default = [ ];
      description = "Store paths whose content lies at the image's root.";
    };
    reproducible = mkOption {
      type = types.bool;
      default = true;
      description = "Whether another build would make the same store paths. If not, the layer is kept as it was packed.";
    };
    maxLayers = mkOption {
      type = count;
      default = 1;
      description = "At most so many layers.";
    };
    perms = mkOption {
      type = types.listOf (types.submoduleWith { modules = [ { options = rule; } ]; });
      default = [ ];
      description = "Owners and modes of files in the image; the store's stay as they are.";
    };
    ignore = mkOption {
      type = types.nullOr types.pathInStore;
      default = null;
      description = "A store path to leave out.";
    };
  };
in
types.submodule (
  { name, config, ... }:
  {
    options = {
      name = mkOption {
        type = types.nullOr types.str;
        default = "${projectName name}-${name}";
        defaultText = literalExpression ''"''${config.name}-NAME"'';
        description = "The image's name, without a tag.";
      };
      version = mkOption {
        type = types.nullOr types.str;
        default = "latest";
        description = "The image's tag. Null is the hash of the image.";
      };
      fromImage = mkOption {
        type = types.nullOr types.package;
        default = null;
        example = lib.literalExpression "nix2container.pullImage { imageName = \"alpine\"; imageDigest = \"sha256:...\"; sha256 = \"sha256-...\"; }";
        description = ''
          A base image, whose layers lie below all others: what `pullImage` or `buildImage` gives, functions of the modules' argument
          `nix2container`.
        '';
      };
      copyToRoot = mkOption {
        type = types.nullOr (types.either types.path (types.listOf types.path));
        default = projectRoot;
        defaultText = literalExpression "self";
        example = literalExpression "./dist";
        description = ''
          What is copied to the container's home folder, `${homeDir}`: a folder's content, a file, or a list of these. The whole
          project unless it is set; nothing if it is null. A link to a file is copied as a link.

          What is named here can also be reached at the image's root: of `./dist` with a file `mybinary`, `${homeDir}/mybinary` and
          `/mybinary`. There is no such link where the image has something of that name, and none if there is a base image.
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
          What the container runs: shell code, a program's package, or a list: a program and its arguments, which nothing splits or
          expands, or the arguments of an `entrypoint` of your own.
        '';
      };
      entrypoint = mkOption {
        type = types.listOf types.anything;
        default = [ entrypoint ];
        defaultText = literalExpression "[ entrypoint ]";
        description = ''
          The image's entrypoint. Unless it is set, a program that enters the environment and runs its arguments. One argument is shell
          code, in which it expands the environment's variables; several are a program and its arguments.
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
          Where `nixply container copy` copies to unless `--registry` is given: what stands in front of NAME:TAG in skopeo's words, with
          the slash at its end where there is to be one.
        '';
      };
      defaultCopyArgs = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = literalExpression ''[ "--authfile" "\"$HOME/.config/registry.json\"" ]'';
        description = ''
          Arguments of `skopeo copy` unless `--copy-args` is given. Each is shell code and is evaluated when the container is copied, so
          that a secret is never part of it. All users of the machine can see programs' arguments: name a file with the secret.
        '';
      };
      maxLayers = mkOption {
        type = types.nullOr count;
        default = 1;
        description = "At most so many layers for the environment. Null is one.";
      };
      layers = mkOption {
        type = types.listOf (types.submoduleWith { modules = [ { options = layer; } ]; });
        default = [ ];
        description = ''
          Further layers, below those of the environment. What is in one of them is in no later one. The last is the one with the home
          folder, which lies on top of all others in the image: it is what changes most.
        '';
      };
      enableLayerDeduplication = mkOption {
        type = types.bool;
        default = true;
        example = false;
        description = "Whether each of `layers` leaves out what those before it have.";
      };
      compression = mkOption {
        type = types.nullOr codec;
        default = null;
        example = "zstd:3";
        description = ''
          none, gzip or zstd, with a level. With a codec the image's specification has the digests of the compressed layers, and what a
          registry has already is found out without packing. nixply's own: devenv has no such option.
        '';
      };
      strategy = mkOption {
        type = types.enum strategies;
        default = "nixply";
        example = "size";
        description = ''
          How store paths are grouped into layers where there may be several: nixply, popularity, which is nix2container's, auto-layer,
          size, single or per-path. nixply's own: devenv has no such option.
        '';
      };
      groups = mkOption {
        type = types.nullOr (types.listOf types.raw);
        default = null;
        example = literalExpression ''[ { depsOf = pkgs.python3; } { minSize = "100 MiB"; } ]'';
        description = ''
          Which of the environment's store paths share a layer, by their names, sizes and references, instead of `strategy`: the groups
          of `builtins.nixplyImage`. `maxLayers` has to be large enough for them. nixply's own: devenv has no such option.
        '';
      };
      lock = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = literalExpression "./nixply.lock.json";
        description = ''
          A lock file, which `nixply container lock NAME` makes and updates: the environment's store paths stay in the layers where they
          were. It is for strategy nixply, and of use where `maxLayers` is more than one. Containers may have one file together; what
          they share is in the same layers then. nixply's own: devenv has no such option.
        '';
      };
      isBuilding = mkOption {
        type = types.bool;
        default = false;
        description = "Whether it is this container that is being built. Set by the tool.";
      };
      reference = mkOption {
        type = types.str;
        internal = true;
        readOnly = true;
        description = "NAME:TAG of the image.";
      };
      derivation = mkOption {
        type = types.package;
        internal = true;
        description = "The image's specification, as a derivation.";
      };
      lockRequest = mkOption {
        type = types.package;
        internal = true;
        readOnly = true;
        description = "The environment as an image, which `nixply plan` takes: for the lock file.";
      };
      copyScript = mkOption {
        type = types.package;
        internal = true;
        description = "The program that copies it: SPEC REGISTRY [ARGUMENT...].";
      };
      dockerRun = mkOption {
        type = types.package;
        internal = true;
        description = "The program that runs it: [ARGUMENT...].";
      };
    };

    config =
      let
        built = build name config;
      in
      {
        layers = [ built.homeLayer ];
        inherit (built) reference lockRequest;
        derivation = lib.mkOptionDefault built.derivation;
        copyScript = lib.mkOptionDefault built.copyScript;
        dockerRun = lib.mkOptionDefault built.dockerRun;
      };
  }
)
