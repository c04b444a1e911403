# Returns the store path of a project's directory for containers, without the files of tools: links to results would become
# inputs of these results.
{
  # The directory, a path or a text, in the store or elsewhere.
  root,
  # A filter, or null: relative path -> bool. It must accept the directories of the files that it accepts.
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
  # Newer versions of Nix resolve links in the path of the directory; then the relative path is unknown.
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
