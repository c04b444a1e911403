# A container's entrypoint: enters the environment, expands variables in what it is given, and becomes the shell that runs
# it. So what a container is to run is shell code, in `startupCommand` as in `docker run IMAGE CODE`.
{
  pkgs,
  # The file that enters the environment: shell-environment.nix.
  enter,
}:

let
  bash = "${pkgs.bashInteractive}/bin/bash";
in
pkgs.writeScript "entrypoint" ''
  #!${bash}
  export PATH=/bin
  source ${enter}
  command="$(printf '%s' "$*" | ${pkgs.envsubst}/bin/envsubst)"
  # It takes this process' place: signals reach it, and its exit code is the container's.
  exec ${bash} -c "$command"
''
