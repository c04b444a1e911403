# The files that a build of the program and the plugin needs: the members of the workspace, and the directories that they embed. So
# a change of other files does not cause a rebuild. `cargo xtask lint` builds both from these files alone. The result is a set with
# `outPath`, like the sources that nixpkgs' lib makes, but without nixpkgs.
{ ... }:

let
  root = ../.;
  rootPath = toString root;

  read = file: builtins.fromTOML (builtins.readFile file);
  members = map (
    member:
    if builtins.match "[A-Za-z0-9_./-]+" member != null then
      member
    else
      throw "nix/source.nix: name the workspace member ${member} of Cargo.toml without a pattern"
  ) (read (root + "/Cargo.toml")).workspace.members;

  # `package.metadata.source` in the Cargo.toml of each member: lists of directories to embed and of directories to leave out.
  declared = map (
    member: (read (root + "/${member}/Cargo.toml")).package.metadata.source or { }
  ) members;
  of = name: builtins.concatMap (source: source.${name} or [ ]) declared;

  wanted = [
    "Cargo.toml"
    "Cargo.lock"
  ]
  ++ members
  ++ of "embeds";
  unwanted = of "leaves-out";

  startsWith = start: text: builtins.substring 0 (builtins.stringLength start) text == start;
  isIn = path: directory: path == directory || startsWith "${directory}/" path;
  leadsTo = path: directory: startsWith "${path}/" directory;

  # Newer versions of Nix resolve links in the path of the root. Then the root is the directory above that contains this file.
  rootOf = path: if builtins.pathExists (/. + "${path}/nix/source.nix") then path else rootOf (dirOf path);
  relativeTo =
    path:
    let
      prefix = if startsWith "${rootPath}/" path then rootPath else rootOf (dirOf path);
    in
    builtins.substring (builtins.stringLength prefix + 1) (-1) path;
in
{
  name = "source";
  outPath = builtins.path {
    path = root;
    name = "source";
    filter =
      path: type:
      let
        relative = relativeTo path;
      in
      type != "unknown"
      && !builtins.any (isIn relative) unwanted
      && builtins.any (directory: isIn relative directory || leadsTo relative directory) wanted;
  };
}
