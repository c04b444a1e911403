# The image of a container, and the scripts that copy and run it.
{
  lib,
  # Packages for the machine that runs the container.
  pkgs,
  # Packages for the machine that copies containers.
  tools,
  # nixply's functions: buildImage, buildLayer, buildIndex, skopeo-nix2container.
  functions,
  user,
  # The environment's variables.
  env,
  # The default of `copyToRoot`.
  projectRoot,
  # A function from a container's attribute to the error message for a container without a name.
  noName,
}:

let
  inherit (functions.nix2container) buildImage buildLayer buildIndex;
  declared = import ../../arguments.nix;
  toList = value: if builtins.isList value then value else [ value ];

  makeHome = import ./home.nix {
    inherit pkgs;
    inherit (user) home;
  };
  etc = import ./etc.nix { inherit pkgs user; };
  tmp = pkgs.runCommandLocal "container-tmp" { } "mkdir -p $out/tmp";
  # Programs in every container.
  root = pkgs.buildEnv {
    name = "container-root";
    paths = [
      pkgs.coreutils-full
      pkgs.bashInteractive
      pkgs.su
      pkgs.sudo
      pkgs.dockerTools.usrBinEnv
    ];
    pathsToLink = [
      "/bin"
      "/usr/bin"
    ];
  };

  makeCopyScript = import ./copy-script.nix {
    inherit lib;
    pkgs = tools;
    skopeo = functions.skopeo-nix2container;
  };
  makeRunScript = import ./run-script.nix {
    inherit lib;
    pkgs = tools;
  };

  # The user owns every file of a home directory.
  ownedByUser = path: {
    inherit path;
    mode = "0744";
    uid = user.id;
    gid = user.id;
    uname = user.name;
    gname = user.name;
  };
in
name: container:
let
  place = "containers.${name}";

  homes =
    # Without links at the root if there is a base image, whose files they could hide, and for the whole project, which has too many
    # entries.
    map
      (
        path:
        makeHome {
          inherit path;
          atRoot = container.fromImage == null && path != null && container.copyToRoot != projectRoot;
        }
      )
      (if container.copyToRoot == null || container.copyToRoot == [ ] then [ null ] else toList container.copyToRoot);

  homeLayer = {
    perms = map ownedByUser homes;
    copyToRoot = homes;
  };
  isHomeLayer = layer: map toString layer.copyToRoot == map toString homes;

  # The container's options that are arguments of an image. `strategy` and `groups` are for the environment's layers.
  arguments = lib.filterAttrs (_: value: value != null) (
    builtins.intersectAttrs declared.containerOptions container
  );
  strategy = {
    strategy = arguments.strategy or declared.defaultStrategy;
  };
  grouping = if arguments ? groups then { inherit (arguments) groups; } else strategy;

  # For messages.
  lockPlace = "nixply: ${place}.lock";
  lockAble =
    answer:
    let
      other = if arguments ? groups then "groups" else "strategy \"${strategy.strategy}\"";
      # By its present name.
      current = declared.image.strategy.formerValues.${strategy.strategy} or strategy.strategy;
    in
    if !(arguments ? groups) && current == declared.lockStrategy then
      answer
    else
      throw "${lockPlace}: a lock file requires strategy \"${declared.lockStrategy}\", but this container uses ${other}; remove one of them";

  # The lock file, copied to the store under a fixed name, so that the result depends only on its content.
  lockFile =
    let
      file = toString container.lock;
      command = "`nixply container lock ${name}`";
      text = builtins.unsafeDiscardStringContext (builtins.readFile container.lock);
      read = builtins.addErrorContext "while reading the lock file ${file}" (builtins.fromJSON text);
    in
    if !builtins.pathExists container.lock then
      throw "${lockPlace}: ${file} does not exist; create it with ${command}, and if the project is a flake in a git repository, `git add` the file"
    else if builtins.replaceStrings [ "<<<<<<<" ] [ "" ] text != text then
      throw "${lockPlace}: ${file} has merge conflict markers; keep either side, then run ${command}"
    else if !(read ? images.${name}) then
      throw "${lockPlace}: ${file} does not contain this container; add it with ${command}"
    else
      # Not builtins.path: older versions of Nix copy a link without its target.
      builtins.toFile "nixply.lock.json" text;

  config = {
    Entrypoint = container.entrypoint;
    User = user.name;
    WorkingDir = container.workingDir;
    Env = lib.mapAttrsToList (variable: value: "${variable}=${toString value}") env ++ [
      "HOME=${user.home}"
      "USER=${user.name}"
    ];
  }
  // lib.optionalAttrs (container.startupCommand != null) {
    Cmd = map program (toList container.startupCommand);
  };

  # A package with meta.mainProgram means that program. A package without it may itself be a program.
  program = value: if value ? meta.mainProgram then lib.getExe value else toString value;

  # A layer with the store paths that a value names, without the file that lists them.
  layerFor =
    what: value: layer:
    let
      text = pkgs.writeText "container-${what}" (builtins.toJSON value);
    in
    buildLayer (
      layer
      // {
        deps = [ text ];
        ignore = text;
      }
    );

  # From the bottom up, the layer that changes least first: the user's `layers`, the environment, the remaining store paths of the
  # command, and on top the home directory. An edit of a project file changes only the home directory's layer.
  own = builtins.filter (layer: !isHomeLayer layer) container.layers;
  below =
    if container.enableLayerDeduplication then
      lib.foldl' (layers: layer: layers ++ [ (buildLayer (strategy // layer // { inherit layers; })) ]) [ ] own
    else
      map (layer: buildLayer (strategy // layer)) own;
  environmentConfig = removeAttrs config [ "Cmd" ];
  environmentLayers = {
    copyToRoot = [
      root
      etc
      tmp
    ];
    maxLayers = if container.maxLayers == null then 1 else container.maxLayers;
    perms = [
      {
        path = tmp;
        regex = "/tmp$";
        mode = "1777";
        uid = 0;
        gid = 0;
        uname = "root";
        gname = "root";
      }
    ];
  };
  environment = layerFor "environment" environmentConfig (
    grouping
    // environmentLayers
    // {
      layers = below;
    }
    // lib.optionalAttrs (container.lock != null) {
      lock = lockAble {
        file = lockFile;
        image = name;
      };
    }
  );

  # The request from which `nixply container lock` plans: the environment as an image with the container's name. The user's layers
  # matter only for the store paths in them, so their strategy is fixed.
  lockRequest = lockAble (
    pkgs.writeText "lock-request.json" (
      builtins.toJSON (
        environmentLayers
        // {
          inherit name;
          config = environmentConfig;
          layers = map (
            layer:
            layer.request
            // {
              strategy = "single";
            }
            // lib.optionalAttrs (!container.enableLayerDeduplication) { parents = [ ]; }
          ) below;
        }
      )
    )
  );
  command = layerFor "command" (config.Cmd or [ ]) { layers = below ++ [ environment ]; };
  top = builtins.filter isHomeLayer container.layers;

  image = buildImage (
    removeAttrs arguments [ "groups" "strategy" ]
    // {
      inherit config;
      name = if container.name == null then throw (noName name) else container.name;
      tag = container.version;
      layers = below ++ [ environment ] ++ lib.optional (config ? Cmd) command;
      copyToRoot = lib.concatMap (layer: layer.copyToRoot) top;
      perms = lib.concatMap (layer: layer.perms) top;
      initializeNixDatabase = true;
      nixUid = user.id;
      nixGid = user.id;
    }
    // lib.optionalAttrs (container.fromImage != null) { inherit (container) fromImage; }
  );

  # imageName is in lower case, as registries and engines require.
  reference = "${image.imageName}:${image.imageTag}";
in
{
  inherit homeLayer reference lockRequest;
  derivation = image;
  # Returns the index of the container's images for its `systems`.
  indexOf =
    images:
    buildIndex {
      inherit images;
      name = image.imageName;
      tag = container.version;
    };
  copyScript = makeCopyScript {
    inherit reference place;
    inherit (container) registry;
    defaultArguments = container.defaultCopyArgs;
    isIndex = container.systems != [ ];
  };
  dockerRun = makeRunScript { inherit reference; };
}
