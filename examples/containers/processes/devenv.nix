# All processes in one container: `nixply container run processes`.
{ pkgs, ... }:

{
  name = "myapp";

  packages = [ pkgs.procps ];

  processes.hello-docker.exec = "while true; do echo 'Hello Docker!' && sleep 1; done";
  processes.hello-nix.exec = "while true; do echo 'Hello Nix!' && sleep 1; done";

  # Excludes the project, to make the container smaller.
  containers."processes".copyToRoot = null;
}
