# A container's entrypoint: enters the environment and runs its arguments. A single argument is shell code, in which the
# entrypoint expands the environment's variables: `startupCommand`, or `docker run IMAGE CODE`. Several arguments are a program
# and its arguments, as in `docker run IMAGE PROGRAM ARGUMENT...`, and reach the program unchanged.
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
  # Code that enters the environment may set positional parameters of its own.
  nixply_arguments=("$@")
  source ${enter}
  set -- "''${nixply_arguments[@]}"
  source ${./expand.sh}
  nixply_expand "$*"
  command=$nixply_expanded
  # The shell finds builtins and exported functions, too.
  if [ $# -gt 1 ]; then command='"$@"'; else set --; fi
  # A shell that is not interactive forgets the prompt, before it starts one that is.
  if [ -n "''${PS1-}" ]; then command="export PS1=''${PS1@Q}"$'\n'"$command"; fi
  # The kernel keeps signals from a container's first process unless it expects them, and that process has to bury those
  # that lose their parents. tini does both, and its exit code is the command's.
  exec ${pkgs.tini}/bin/tini -s -g -- ${bash} -c -- "$command" ${bash} "$@"
''
