# Finds nixpkgs for a project, and returns a function from a system to its packages. Looks in this order: the argument `nixpkgs`,
# the flake's input `nixpkgs`, devenv's lock file, <nixpkgs>, the flake registry.
{
  # The project's directory.
  root,
  # The project's flake, or null.
  flake,
  # A path or a flake reference, or null.
  nixpkgs,
}:

let
  # The nixpkgs of devenv.lock, or null.
  locked =
    let
      lockFile = root + "/devenv.lock";
      lock = builtins.fromJSON (builtins.readFile lockFile);
      # In a lock file, an input is the name of a node, or a list of names of inputs to follow from the root.
      nodeOf = input: if builtins.isList input then builtins.foldl' inputOf lock.root input else input;
      inputOf = node: name: nodeOf lock.nodes.${node}.inputs.${name};
      tree = lock.nodes.${inputOf lock.root "nixpkgs"}.locked;
      isRelative = tree.type == "path" && builtins.substring 0 1 tree.path != "/";
      source =
        if isRelative then root + "/${tree.path}" else (builtins.fetchTree (removeAttrs tree [ "dir" ])).outPath;
    in
    if builtins.pathExists lockFile && lock.nodes.${lock.root} ? inputs.nixpkgs then
      source + (if tree ? dir then "/${tree.dir}" else "")
    else
      null;

  searched = builtins.tryEval <nixpkgs>;

  source =
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

  requirements = import ../requirements.nix;
in
system:
if source ? legacyPackages then
  (builtins.seq (requirements source) source).legacyPackages.${system}
else
  import (requirements source) { inherit system; }
