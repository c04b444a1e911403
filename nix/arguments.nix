# The arguments of an image, as the packer declares them. `cargo xtask docs` writes arguments.json from the declarations in Rust.
let
  declarations = builtins.fromJSON (builtins.readFile ./arguments.json);

  toList = value: if builtins.isList value then value else if value == null then [ ] else [ value ];

  # The value at an attribute path, or null.
  valueAt = builtins.foldl' (
    value: name: if builtins.isAttrs value then value.${name} or null else null
  );

  rootsAt = paths: set: builtins.concatMap (path: toList (valueAt set path)) paths;

  # The names of the arguments whose declaration passes a test.
  namesWhere = test: arguments: builtins.filter (name: test arguments.${name}) (builtins.attrNames arguments);

  optionsOf =
    arguments: removeAttrs arguments (namesWhere (argument: !(argument.containerOption or false)) arguments);

  lower = builtins.replaceStrings
    [ "A" "B" "C" "D" "E" "F" "G" "H" "I" "J" "K" "L" "M" "N" "O" "P" "Q" "R" "S" "T" "U" "V" "W" "X" "Y" "Z" ]
    [ "a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n" "o" "p" "q" "r" "s" "t" "u" "v" "w" "x" "y" "z" ];

  # Store paths whose closures the program needs to build these layers, for exportReferencesGraph.
  layerRoots = builtins.concatMap (rootsAt declarations.roots.layer);
in
declarations
// {
  inherit layerRoots;

  # Returns the name of an image in lower case, as registries require, or throws an error.
  canonicalName =
    name:
    let
      canonical = lower name;
      long = builtins.stringLength canonical > declarations.name.maximumLength;
    in
    if !long && builtins.match declarations.name.pattern canonical != null then
      canonical
    else
      throw "nixply: image name ${builtins.toJSON name} is not valid: expected ${declarations.name.expected}";

  # The arguments of an image and of a layer that are options of `containers.NAME` and of its `layers`.
  containerOptions = optionsOf declarations.image;
  layerOptions = optionsOf declarations.layer;

  # The arguments of a layer that are lists of store paths.
  layerPathLists = namesWhere (argument: argument.kind == "storePaths") declarations.layer;

  # Store paths whose closures the program needs to build the image of a request, except those in its config.
  requestRoots = request: rootsAt declarations.roots.image request ++ layerRoots request.layers;
}
