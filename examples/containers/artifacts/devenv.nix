# A container with only the build's output: `copyToRoot` copies ./dist and nothing else of the project.
{ pkgs, ... }:

{
  name = "myapp";

  # Watches for changes and builds the project to ./dist.
  processes.build.exec = "${pkgs.watchexec}/bin/watchexec my-build-tool";

  containers."prod".copyToRoot = ./dist;
  containers."prod".startupCommand = "/mybinary serve";
}
