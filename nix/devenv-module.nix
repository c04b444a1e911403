# In devenv: nixply's containers in place of devenv's own, with the same options, for
#   imports = [ inputs.nixply.devenvModules.containers ];
# in a devenv.nix. Neither nix2container nor mk-shell-bin needs to be an input then.
{ inputs, ... }:

let
  devenv = inputs.devenv or (throw "nixply: its containers take the place of those of the input `devenv`, and there is no such input");
in
{
  # As devenv's other modules name it: a text would be another file.
  disabledModules = [ (devenv.modules + "/containers.nix") ];
  imports = [ ./modules/containers.nix ];
}
