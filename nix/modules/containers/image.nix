# The image of a container, and the scripts that copy and run it.
{
  lib,
  # Of the container's machine.
  pkgs,
  # Packages of the machine that copies containers.
  tools,
  # nixply's functions: buildImage, buildLayer, skopeo-nix2container.
  functions,
  user,
  # Variables of the environment.
  env,
  # What a container copies unless it says otherwise.
  projectRoot,
  # What is said of a container without a name: NAME -> text.
  noName,
}:

let
  inherit (functions.nix2container) buildImage buildLayer;
  toList = value: if builtins.isList value then value else [ value ];

  makeHome = import ./home.nix {
    inherit pkgs;
    inherit (user) home;
  };
  etc = import ./etc.nix { inherit pkgs user; };
  tmp = pkgs.runCommandLocal "container-tmp" { } "mkdir -p $out/tmp";
  # The programs that a container has whatever its environment is.
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

  # Every file of a home folder is the user's.
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
    # A link at the root could hide what a base image has there. Whole projects bring too much to be wanted there.
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

  codec = lib.optionalAttrs (container.compression != null) { inherit (container) compression; };
  strategy = { inherit (container) strategy; };
  grouping = if container.groups == null then strategy else { inherit (container) groups; };

  # For messages.
  lockPlace = "nixply: ${place}.lock";
  lockAble =
    answer:
    let
      other = if container.groups != null then "groups" else "strategy \"${container.strategy}\"";
    in
    if container.groups == null && container.strategy == "nixply" then
      answer
    else
      throw "${lockPlace}: a lock file is for strategy \"nixply\", not for ${other}: leave one of them out";

  # The lock file in the store, where nothing but its content counts.
  lockFile =
    let
      file = toString container.lock;
      command = "`nixply container lock ${name}`";
      text = builtins.unsafeDiscardStringContext (builtins.readFile container.lock);
      read = builtins.addErrorContext "while reading the lock file ${file}" (builtins.fromJSON text);
    in
    if !builtins.pathExists container.lock then
      throw "${lockPlace}: there is no ${file} yet: ${command} makes it; where a flake is in a work tree of git, `git add` it then"
    else if builtins.replaceStrings [ "<<<<<<<" ] [ "" ] text != text then
      throw "${lockPlace}: ${file} has a conflict: take either side of it, and ${command}"
    else if !(read ? images.${name}) then
      throw "${lockPlace}: ${file} does not have this container: ${command} adds it"
    else
      # Not `path`: older versions of Nix copy a link as it is, without what it leads to.
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

  # A package with a main program is meant for that; one without may be a program itself.
  program = value: if value ? meta.mainProgram then lib.getExe value else toString value;

  # A layer with what a text names, without the text.
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

  # From the bottom up, what changes least first: what the user put into layers; the environment; what the command has
  # besides; and on top the home folder, which an edit of the project's files changes and nothing else.
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

  # What the lock file is made of: the environment as an image of the container's name. How the user's layers are made is none of
  # its business, but for what they have.
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
    codec
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

  # The name is in lower case here, as registries and engines take it.
  reference = "${image.imageName}:${image.imageTag}";
in
{
  inherit homeLayer reference lockRequest;
  derivation = image;
  copyScript = makeCopyScript {
    inherit reference place;
    inherit (container) registry;
    defaultArguments = container.defaultCopyArgs;
  };
  dockerRun = makeRunScript { inherit reference; };
}
