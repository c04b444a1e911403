# What `nixply container` asks of a project: which containers there are and, of the one that is wanted, what to build.
{
  # The project's folder.
  root,
  # The same as a flake's reference.
  flakeReference ? root,
  # The file with the environment; root/devenv.nix, or what the flake has, without one.
  file ? null,
  # The container that is wanted; none when only their names are.
  name ? null,
  # What of it: image, or lock, for the lock file that it names.
  want ? "image",
  # The folder that the flake's reference leads to, without its `dir`.
  top ? root,
  # The system on which images are made, copied and run, and the one that they are for.
  hostSystem ? builtins.currentSystem,
  system ? hostSystem,
  # A nixpkgs: a path, or a flake's reference. Found without one.
  nixpkgs ? null,
  # The program that packs without the plugin: a path outside of the store, or in it.
  program,
  # A file with the list of the project's files, as JSON: what containers copy of it. All without one.
  files ? null,
}:

let
  rootPath = /. + root;
  inRoot = path: rootPath + "/${path}";

  # The project's flake, where it has one.
  flake = if file == null && builtins.pathExists (inRoot "flake.nix") then builtins.getFlake flakeReference else null;

  # A flake that says itself what its containers are: what lib.containers gives.
  flakeContainers = flake.containers or null;

  environmentFile = if file != null then /. + file else inRoot "devenv.nix";

  # Where devenv has pinned nixpkgs.
  lockFile = inRoot "devenv.lock";
  locked =
    let
      lock = builtins.fromJSON (builtins.readFile lockFile);
      # The name of a node, or what an input follows: names of inputs from the root on.
      nodeOf = input: if builtins.isList input then builtins.foldl' inputOf lock.root input else input;
      inputOf = node: name: nodeOf lock.nodes.${node}.inputs.${name};
      tree = lock.nodes.${inputOf lock.root "nixpkgs"}.locked;
      isRelative = tree.type == "path" && builtins.substring 0 1 tree.path != "/";
      source =
        if isRelative then inRoot tree.path else (builtins.fetchTree (removeAttrs tree [ "dir" ])).outPath;
    in
    if builtins.pathExists lockFile && lock.nodes.${lock.root} ? inputs.nixpkgs then
      source + (if tree ? dir then "/${tree.dir}" else "")
    else
      null;

  searched = builtins.tryEval <nixpkgs>;

  nixpkgsSource =
    if nixpkgs != null then
      if builtins.substring 0 1 nixpkgs == "/" then /. + nixpkgs else builtins.getFlake nixpkgs
    else if flake != null && flake ? inputs.nixpkgs then
      flake.inputs.nixpkgs
    else if locked != null then
      locked
    else if searched.success then
      searched.value
    else
      builtins.getFlake "nixpkgs";

  requirements = import ./requirements.nix;
  pkgsFor =
    system:
    if nixpkgsSource ? legacyPackages then
      (builtins.seq (requirements nixpkgsSource) nixpkgsSource).legacyPackages.${system}
    else
      import (requirements nixpkgsSource) { inherit system; };

  # Only what is listed: neither what git ignores nor git's own. Nothing is where git ignores the folder itself.
  source =
    let
      list = if files == null then [ ] else builtins.fromJSON (builtins.readFile (/. + files));
      listed = builtins.listToAttrs (
        map (path: {
          name = path;
          value = null;
        }) list
      );
    in
    import ./project.nix {
      root = rootPath;
      wanted = if list == [ ] then null else relative: listed ? ${relative};
    };

  # The program as a package. One that is in the store is taken from there, with what it needs.
  package =
    pkgs:
    let
      stored =
        if builtins.substring 0 (builtins.stringLength builtins.storeDir + 1) program == "${builtins.storeDir}/" then
          builtins.storePath program
        else
          builtins.path {
            path = /. + program;
            name = "nixply";
          };
    in
    pkgs.runCommandLocal "nixply" { } ''
      mkdir -p $out/bin
      ln -s ${stored} $out/bin/nixply
    '';

  local = inRoot "devenv.local.nix";

  evaluated =
    system:
    let
      pkgs = pkgsFor system;
    in
    import ./evaluate.nix {
      inherit pkgs root;
      self = source;
      modules = [
        environmentFile
      ]
      # Built for this machine, which packs images for others, too.
      ++ [ { nixply.package = pkgs.lib.mkDefault (package (pkgsFor hostSystem)); } ]
      ++ (if file == null && builtins.pathExists local then [ local ] else [ ]);
    };

  containersFor =
    system: if flakeContainers != null then flakeContainers.${system} or { } else (evaluated system).config.containerBuilds;

  containers = containersFor system;
  # What runs on this machine is made for it, whatever the image is for.
  hostContainers = if hostSystem == system then containers else containersFor hostSystem;

  lockOf =
    container:
    if container.lock or null == null then
      null
    else
      # One file is one path, however it is spelt.
      toString (/. + builtins.unsafeDiscardStringContext (toString container.lock));

  # A flake's file as it is in the project, not in the store.
  inProject =
    path:
    let
      source = "${flake.sourceInfo.outPath or flake.outPath}/";
      length = builtins.stringLength source;
    in
    if flakeContainers != null && builtins.substring 0 length path == source then
      "${top}/${builtins.substring length (-1) path}"
    else
      path;
in
{
  names = builtins.attrNames containers;
  lock =
    if want == "lock" && name != null && containers ? ${name} then
      let
        file = lockOf containers.${name};
        others = builtins.filter (other: lockOf containers.${other} == file) (builtins.attrNames containers);
      in
      {
        inherit (builtins) nixVersion;
        file = if file == null then null else inProject file;
        # Of all containers that have it: they are planned together.
        requests =
          if file == null then
            { }
          else
            builtins.listToAttrs (
              map (name: {
                inherit name;
                value = containers.${name}.lockRequest.drvPath;
              }) others
            );
      }
    else
      null;
  container =
    if want == "image" && name != null && containers ? ${name} then
      let
        container = containers.${name};
        onHost = hostContainers.${name};
      in
      {
        inherit (container) reference;
        inherit (builtins) nixVersion;
        spec = container.derivation.drvPath;
        copyScript = onHost.copyScript.drvPath;
        # So that what cannot be copied is not packed. A flake may have functions that do not tell.
        registry = onHost.registry or "";
        copyArguments = onHost.defaultCopyArgs or [ ];
      }
    else
      null;
}
