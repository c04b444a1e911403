# A devenv module that replaces devenv's containers by nixply's, with the same options. In a devenv.nix:
#   imports = [ inputs.nixply.devenvModules.containers ];
# The inputs nix2container and mk-shell-bin are then not needed.
{ inputs, ... }:

let
  devenv = inputs.devenv or (throw "nixply: its containers module needs the input `devenv`, whose containers it replaces");
in
{
  # A path, as in devenv's other modules: a text would be another file.
  disabledModules = [ (devenv.modules + "/containers.nix") ];
  imports = [ ./modules/containers.nix ];
}
