# Converts a text to a derivation name: replaces characters that Nix does not accept with dashes, as nixpkgs does.
text:
let
  parts = builtins.filter builtins.isString (builtins.split "[^a-zA-Z0-9+._?=-]+" (builtins.unsafeDiscardStringContext text));
  name = builtins.concatStringsSep "-" parts;
in
if name == "" || builtins.substring 0 1 name == "." then "x${name}" else name
