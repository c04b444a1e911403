# Answers `nixply container`: the names of a project's containers, and the derivations to build for one of them.
{
  # The project's directory.
  root,
  # The project's directory as a flake reference.
  flakeReference ? root,
  # The environment file. Defaults to the containers of the flake, or root/devenv.nix.
  file ? null,
  # The container's name, or null to get only the names.
  name ? null,
  # The wanted part of the answer: "image", or "lock" for the container's lock file.
  want ? "image",
  # The directory of the flake reference without its `dir`.
  top ? root,
  # The system that builds, copies and runs images, and the system of the images.
  hostSystem ? builtins.currentSystem,
  system ? hostSystem,
  # A path or a flake reference of nixpkgs. Defaults to the project's, see container-interface/nixpkgs.nix.
  nixpkgs ? null,
  # The program that packs without the plugin: a path in the store or elsewhere.
  program,
  # A file with a JSON list of the project's files that containers copy. Defaults to all files.
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

  # Replaces the flake's copy in the store by the project's directory in a path.
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
        spec = container.derivation.drvPath;
        copyScript = onHost.copyScript.drvPath;
        # The program checks the destination before it packs. A flake's own containers may lack these attributes.
        registry = onHost.registry or "";
        copyArguments = onHost.defaultCopyArgs or [ ];
      }
    else
      null;
}
