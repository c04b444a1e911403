# A container's home folder with a path's content: a folder's entries, or a single file under its own name. What is copied
# can also be reached at the image's root where nothing else is called so: `copyToRoot = ./dist` makes both
# /env/mybinary and /mybinary. A link to a file stays a link.
{
  pkgs,
  # The home folder's path in the image.
  home,
}:

{
  # What to copy; without one the home folder is empty.
  path,
  # Whether there are links to it at the image's root.
  atRoot,
}:

let
  # Neither is every file's name one that the store takes, nor every path that a text is a path in the store.
  isStorable = builtins.match "[0-9a-zA-Z+_?=][0-9a-zA-Z+._?=-]*" name != null;
  isStored = builtins.match "${builtins.storeDir}/.*" path != null && builtins.hasContext path;

  # Of the project's, not of a package's: what a build has made is as it was made. A flake's project is in the store, too.
  isFile = builtins.isPath path || builtins.isString path && !isStored;
  file = /. + builtins.unsafeDiscardStringContext (toString path);
  folder = dirOf file;

  # The folder's list tells what a name is: all versions of Nix have it, and other functions follow links or not, by version.
  # The store's own is long, and pure evaluation may not read it.
  type =
    if file == /. then
      "directory"
    else if toString folder == builtins.storeDir && builtins ? readFileType then
      builtins.readFileType file
    else
      (builtins.readDir folder).${baseNameOf file} or "missing";

  # Of a link. A text, because a path would lose the dot.
  leadsToFolder = builtins.pathExists "${toString file}/.";

  # A folder with the link alone: by itself, newer versions of Nix would copy what it leads to.
  linkFolder = builtins.path {
    path = folder;
    name = "content";
    filter = path: type: type == "symlink" && baseNameOf path == baseNameOf file;
  };

  content =
    if !isFile then
      "${path}"
    else if type == "directory" then
      # Without what tools keep in it, were it the project itself.
      import ../../project.nix { root = file; }
    else if type == "symlink" && leadsToFolder then
      # In the image it would lead nowhere.
      throw "nixply: copyToRoot: ${toString path} is a link to a folder: name the folder that it leads to"
    else if type == "symlink" then
      linkFolder
    else if type == "regular" then
      builtins.path {
        path = file;
        name = if builtins.isPath path && isStorable then name else "content";
      }
    else if type == "missing" then
      throw "nixply: copyToRoot: ${toString path} does not exist"
    else
      throw "nixply: copyToRoot: ${toString path} is neither a file, a folder nor a link";

  # A path's name in the store has a hash in front.
  stored = if toString folder == builtins.storeDir then builtins.match "[0-9a-z]{32}-(.*)" name else null;
  name = baseNameOf (builtins.unsafeDiscardStringContext (toString path));

  # The store's, at the root.
  storeFolder = builtins.head (builtins.match "/([^/]*).*" builtins.storeDir);
in
pkgs.runCommandLocal "container-home"
  {
    inherit home;
    content = if path == null then "" else content;
    fileName = if stored == null then name else builtins.head stored;
    atRoot = if atRoot then "1" else "";
    # What an image has of its own, and what engines mount.
    taken = "bin dev env etc nix proc run sys tmp usr ${storeFolder}";
  }
  ''
    mkdir -p "$out$home"
    [ -n "$content" ] || exit 0
    # Links are copied as links: what a package's lead to need not be there while this is built, but is in the image.
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
