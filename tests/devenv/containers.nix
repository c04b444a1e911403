# What is to be replaced.
{ lib, ... }:

{
  options.containers = lib.mkOption {
    default = throw "this is devenv's containers module, not nixply's";
  };
  config.env.CONTAINERS_OF = "devenv";
}
