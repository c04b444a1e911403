# The expression that `nixply container` evaluates. Returns the names of a project's containers, and the derivations to build for
# one of them.
{
  # The project's directory.
  root,
  # The project's directory as a flake reference.
  flakeReference ? root,
  # The environment file. If null, the containers are those of the flake, or of devenv.nix in the project's directory.
  file ? null,
  # The container's name. If null, the result has only the names of all containers.
  name ? null,
  # Part of the result to evaluate: "image", or "lock" for the container's lock file.
  want ? "image",
  # The directory that the flake reference names, without its parameter `dir`.
  top ? root,
  # The system of this machine, which builds, copies and runs images; and the system of the images.
  hostSystem ? builtins.currentSystem,
  system ? hostSystem,
  # A path or a flake reference of nixpkgs. If null, container-interface/nixpkgs.nix finds the project's.
  nixpkgs ? null,
  # Path of the program nixply, which packs if the plugin is not loaded. It may be outside the store.
  program,
  # A file with a JSON list of the project's files that containers copy. If null, containers copy all files.
  files ? null,
}:

let
  rootPath = /. + root;

  # The project's flake, or null.
  flake =
    if file == null && builtins.pathExists (rootPath + "/flake.nix") then builtins.getFlake flakeReference else null;

  containersFor = import ./container-interface/containers.nix {
    inherit rootPath root flake file hostSystem program files;
    pkgsFor = import ./container-interface/nixpkgs.nix {
      root = rootPath;
      inherit flake nixpkgs;
    };
  };

  containers = containersFor system;
  # Scripts run on this machine, even if the image is for another system.
  hostContainers = if hostSystem == system then containers else containersFor hostSystem;

  lockOf =
    container:
    if container.lock or null == null then
      null
    else
      # Normalize the path, so that all spellings of one file are equal.
      toString (/. + builtins.unsafeDiscardStringContext (toString container.lock));

  # Maps a path in the flake's copy in the store to the same path in the project's directory. Other paths stay.
  inProject =
    path:
    let
      source = "${flake.sourceInfo.outPath or flake.outPath}/";
      length = builtins.stringLength source;
    in
    if flake.containers or null != null && builtins.substring 0 length path == source then
      "${top}/${builtins.substring length (-1) path}"
    else
      path;

  # The container's image, or the index of its images for several systems. A flake's own containers may lack these attributes.
  specOf =
    container:
    let
      imageFor = system: (containersFor system).${name}.derivation or (throw "nixply: containers.${name}.systems: there is no container `${name}` for the system ${system}");
    in
    if container.systems or [ ] == [ ] then container.derivation else container.indexOf (map imageFor container.systems);

  has = want': want == want' && name != null && containers ? ${name};
in
{
  names = builtins.attrNames containers;
  lock =
    if has "lock" then
      let
        file = lockOf containers.${name};
        others = builtins.filter (other: lockOf containers.${other} == file) (builtins.attrNames containers);
      in
      {
        inherit (builtins) nixVersion;
        file = if file == null then null else inProject file;
        # The requests of all containers with this lock file, which are planned together.
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
    if has "image" then
      let
        container = containers.${name};
        onHost = hostContainers.${name};
      in
      {
        inherit (container) reference;
        inherit (builtins) nixVersion;
        spec = (specOf container).drvPath;
        copyScript = onHost.copyScript.drvPath;
        # The program copies to registries itself, unless the project has its own script.
        hasCustomScript = onHost.copyScript.name or "" != "copy-container";
        # The program checks the destination before it packs. A flake's own containers may lack these attributes.
        registry = onHost.registry or "";
        copyArguments = onHost.defaultCopyArgs or [ ];
      }
    else
      null;
}
