# Returns a project's containers: system -> name -> container. They are those of its flake's output `containers`, or else
# those of its environment file.
{
  # The project's directory, as a path and as a text.
  rootPath,
  root,
  # The project's flake, or null.
  flake,
  # The environment file, or null for devenv.nix and devenv.local.nix.
  file,
  # The packages: system -> packages.
  pkgsFor,
  # The system that builds images.
  hostSystem,
  # The nixply program, a path.
  program,
  # A file with the list of the project's files, or null for all.
  files,
}:

let
  # Copy only listed files, neither git's own nor those that git ignores. The list is empty if git ignores the directory.
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
    import ../project.nix {
      root = rootPath;
      wanted = if list == [ ] then null else relative: listed ? ${relative};
    };

  # A package with the program. A program in the store keeps its references.
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

  local = rootPath + "/devenv.local.nix";

  evaluated =
    system:
    let
      pkgs = pkgsFor system;
    in
    import ../evaluate.nix {
      inherit pkgs root;
      self = source;
      modules = [
        (if file != null then /. + file else rootPath + "/devenv.nix")
        # The program is for the system that builds, even if the images are for another one.
        { nixply.package = pkgs.lib.mkDefault (package (pkgsFor hostSystem)); }
      ]
      ++ (if file == null && builtins.pathExists local then [ local ] else [ ]);
    };
in
system:
if flake.containers or null != null then
  flake.containers.${system} or { }
else
  (evaluated system).config.containerBuilds
