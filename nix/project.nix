# A project's folder as containers copy it: a path in the store, without what tools keep in the folder. Their links to results
# would be part of what the results are made of.
{
  # The folder: a path or a text, in the store or not.
  root,
  # Whether a file is wanted besides: the path in the folder -> bool. A folder that is not has nothing in it that is.
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
  # Newer versions of Nix follow links on the way to the folder: then the path in it is not known.
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
      # A pipe or a socket is nothing that the store takes.
      if type == "unknown" then
        false
      else if wanted == null then
        !isTools (if relative == null then baseNameOf path else relative) type
      else if relative == null then
        throw "nixply: ${prefix} leads to ${path} over a link: name the folder itself"
      else
        !isTools relative type && wanted relative;
  }
