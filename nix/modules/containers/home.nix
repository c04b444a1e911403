# A container's home directory, with the content of a path: the entries of a directory, or a single file under its own name.
# At the image's root there is a link to each entry, unless the image itself uses the name: `copyToRoot = ./dist` creates
# /env/mybinary and the link /mybinary. A link to a file is copied as a link.
{
  pkgs,
  # Path of the home directory in the image.
  home,
}:

{
  # The path to copy. If null, the home directory is empty.
  path,
  # Whether to create links to the entries at the image's root.
  atRoot,
}:

let
  # Whether the store accepts the file's name.
  isStorable = builtins.match "[0-9a-zA-Z+_?=][0-9a-zA-Z+._?=-]*" name != null;
  # Whether the path is a string that names a store path, such as the output of a derivation.
  isStored = builtins.match "${builtins.storeDir}/.*" path != null && builtins.hasContext path;

  # Whether the path is a file of the project, and not the output of a derivation, which is copied without a filter. Both can be in
  # the store: the project of a flake is.
  isFile = builtins.isPath path || builtins.isString path && !isStored;
  file = /. + builtins.unsafeDiscardStringContext (toString path);
  directory = dirOf file;

  # The type, from the listing of the parent directory: every version of Nix has readDir, and other functions follow links in some
  # versions. But the listing of the store is long, and pure evaluation cannot read it.
  type =
    if file == /. then
      "directory"
    else if toString directory == builtins.storeDir && builtins ? readFileType then
      builtins.readFileType file
    else
      (builtins.readDir directory).${baseNameOf file} or "missing";

  # Whether the target of a link is a directory: only then `LINK/.` exists. It is a string, because Nix removes `/.` from a path.
  leadsToDirectory = builtins.pathExists "${toString file}/.";

  # A directory that contains only the link. Newer versions of Nix copy the target when given the link itself.
  linkDirectory = builtins.path {
    path = directory;
    name = "content";
    filter = path: type: type == "symlink" && baseNameOf path == baseNameOf file;
  };

  content =
    if !isFile then
      "${path}"
    else if type == "directory" then
      # Filters tool directories such as .devenv, in case this is the project itself.
      import ../../project.nix { root = file; }
    else if type == "symlink" && leadsToDirectory then
      # The link would be broken in the image.
      throw "nixply: copyToRoot: ${toString path} is a link to a directory; name the directory itself"
    else if type == "symlink" then
      linkDirectory
    else if type == "regular" then
      builtins.path {
        path = file;
        name = if builtins.isPath path && isStorable then name else "content";
      }
    else if type == "missing" then
      throw "nixply: copyToRoot: ${toString path} does not exist"
    else
      throw "nixply: copyToRoot: ${toString path} is not a file, a directory or a link";

  # The name without the hash, for a store path.
  stored = if toString directory == builtins.storeDir then builtins.match "[0-9a-z]{32}-(.*)" name else null;
  name = baseNameOf (builtins.unsafeDiscardStringContext (toString path));

  # The store's top-level directory.
  storeDirectory = builtins.head (builtins.match "/([^/]*).*" builtins.storeDir);
in
pkgs.runCommandLocal "container-home"
  {
    inherit home;
    content = if path == null then "" else content;
    fileName = if stored == null then name else builtins.head stored;
    atRoot = if atRoot then "1" else "";
    # Names that the image itself uses or that container engines mount.
    taken = "bin dev env etc nix proc run sys tmp usr ${storeDirectory}";
  }
  ''
    mkdir -p "$out$home"
    [ -n "$content" ] || exit 0
    # Copy links as links: the targets of a package's links may be missing during this build, but exist in the image.
    if [ -d "$content" ]; then
      cp -rP --no-preserve=ownership "$content/." "$out$home/"
      chmod u+w "$out$home"
    else
      cp -P "$content" "$out$home/$fileName"
    fi
    [ -n "$atRoot" ] || exit 0
    shopt -s dotglob nullglob
    cd "$out$home"
    for entry in *; do
      case " $taken " in
        *" $entry "*) ;;
        *) ln -s "$home/$entry" "$out/$entry" ;;
      esac
    done
  ''
