# Copies a project's directory to the store, for containers, and returns the store path. Leaves out the files of tools, such as .git
# and .devenv, and links to build results: a container would contain such a result, and the next build would depend on it.
{
  # The directory: a path or a string, in the store or elsewhere.
  root,
  # A function that returns whether to copy a file, by its relative path; or null, to copy all files. If it accepts a file, it must
  # also accept the directories above it.
  wanted ? null,
}:

let
  text = toString root;
  rootPath = /. + builtins.unsafeDiscardStringContext text;
  inStore = builtins.substring 0 (builtins.stringLength builtins.storeDir + 1) text == "${builtins.storeDir}/";

  isTools =
    name: type:
    builtins.match "\\.git|\\.devenv.*|\\.direnv" name != null
    || type == "symlink" && builtins.match "result|result-.*" name != null;

  entries = builtins.readDir rootPath;
  isClean = builtins.all (name: !isTools name entries.${name}) (builtins.attrNames entries);

  prefix = "${toString rootPath}/";
  length = builtins.stringLength prefix;
  # Newer versions of Nix resolve links in the path of the directory. Then the relative path is unknown, and the result is null.
  relativeTo = path: if builtins.substring 0 length path == prefix then builtins.substring length (-1) path else null;
in
if inStore && isClean && wanted == null then
  "${root}"
else
  builtins.path {
    path = rootPath;
    name = "source";
    filter =
      path: type:
      let
        relative = relativeTo path;
      in
      # The store cannot contain pipes and sockets.
      if type == "unknown" then
        false
      else if wanted == null then
        !isTools (if relative == null then baseNameOf path else relative) type
      else if relative == null then
        throw "nixply: ${prefix} leads to ${path} through a link: name the directory itself"
      else
        !isTools relative type && wanted relative;
  }
