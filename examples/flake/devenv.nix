# The development environment of flake.nix, with a container that runs hello.
{ pkgs, ... }:

{
  name = "myapp";

  packages = [ pkgs.hello ];

  containers.hello.startupCommand = "hello";
}
