# A stand-in for devenv's containers module, which nixply's module must replace.
{ lib, ... }:

{
  options.containers = lib.mkOption {
    default = throw "this is devenv's containers module, not nixply's";
  };
  config.env.CONTAINERS_OF = "devenv";
}
