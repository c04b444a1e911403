# Returns a function from a system to a project's containers: a set of NAME = container. They are those of the flake's output
# `containers`. Without such an output, they are those of the environment file.
{
  # The project's directory, as a path and as a text.
  rootPath,
  root,
  # The project's flake, or null.
  flake,
  # The environment file, or null for devenv.nix and devenv.local.nix.
  file,
  # A function from a system to nixpkgs' packages for it.
  pkgsFor,
  # The system that builds images.
  hostSystem,
  # Path of the program nixply.
  program,
  # A file with the list of the project's files to copy. If null, all are copied.
  files,
}:

let
  # Copies only the listed files. The list comes from git, so ignored files are not in it. It is empty if git ignores the whole
  # directory; then all files are copied.
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

  # A package with the program. If the program is in the store, the package refers to it, and so to all that it needs.
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
