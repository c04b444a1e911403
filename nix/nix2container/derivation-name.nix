# A text as the name of a derivation: whatever Nix does not take becomes a dash, as nixpkgs has it.
text:
let
  parts = builtins.filter builtins.isString (builtins.split "[^a-zA-Z0-9+._?=-]+" (builtins.unsafeDiscardStringContext text));
  name = builtins.concatStringsSep "-" parts;
in
if name == "" || builtins.substring 0 1 name == "." then "x${name}" else name
