# A module that nixply's module replaces.
{ lib, ... }:

{
  options.containers = lib.mkOption {
    default = throw "this is devenv's containers module, not nixply's";
  };
  config.env.CONTAINERS_OF = "devenv";
}
