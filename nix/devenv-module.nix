# A module for devenv that replaces devenv's containers by nixply's, which have the same options. In a devenv.nix:
#   imports = [ inputs.nixply.devenvModules.containers ];
# The project then does not need the inputs nix2container and mk-shell-bin.
{ inputs, ... }:

let
  devenv = inputs.devenv or (throw "nixply: its containers module needs the input `devenv`, whose containers it replaces");
in
{
  # A path, as in devenv's imports. For the module system, a string is a different file.
  disabledModules = [ (devenv.modules + "/containers.nix") ];
  imports = [ ./modules/containers.nix ];
}
