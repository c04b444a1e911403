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

  prefix = builtins.stringLength (toString rootPath) + 1;
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
        relative = builtins.substring prefix (-1) path;
      in
      !isTools relative type && (wanted == null || wanted relative);
  }
