# A container's home folder with a path's content: a folder's entries, or a single file under its own name. What is copied
# can also be reached at the image's root where nothing else is called so: `copyToRoot = ./dist` makes both
# /env/mybinary and /mybinary.
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
  isElsewhere = builtins.isString path && builtins.match "${builtins.storeDir}/.*" path == null;

  # A folder of the project's goes without what tools keep in it, were it the project itself. A link to one would lead nowhere
  # in the image.
  file = /. + builtins.unsafeDiscardStringContext (toString path);
  isFolder = (builtins.isPath path || isElsewhere) && builtins.pathExists (file + "/.");
  isLink = file != /. && (builtins.readDir (dirOf file)).${baseNameOf file} or "directory" == "symlink";

  content =
    if isFolder && isLink then
      throw "nixply: copyToRoot: ${toString path} is a link to a folder: name the folder that it leads to"
    else if isFolder then
      import ../../project.nix { root = path; }
    else if isElsewhere || builtins.isPath path && !isStorable then
      builtins.path {
        path = /. + path;
        name = "content";
      }
    else
      "${path}";

  # A path's name in the store has a hash in front.
  stored = builtins.match "[0-9a-z]{32}-(.*)" name;
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
    # Links are copied as links: what they lead to in the store need not be there while this is built, but is in the image.
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
