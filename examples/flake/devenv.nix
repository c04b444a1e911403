{ pkgs, ... }:

{
  name = "myapp";

  packages = [ pkgs.hello ];

  containers.hello.startupCommand = "hello";
}
