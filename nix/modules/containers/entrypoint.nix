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
  # Code that enters the environment may set other positional parameters.
  nixply_arguments=("$@")
  source ${enter}
  set -- "''${nixply_arguments[@]}"
  source ${./expand.sh}
  nixply_expand "$*"
  command=$nixply_expanded
  # The shell also finds builtins and exported functions.
  if [ $# -gt 1 ]; then command='"$@"'; else set --; fi
  # A non-interactive shell unsets the prompt, so the command sets it again for an interactive one.
  if [ -n "''${PS1-}" ]; then command="export PS1=''${PS1@Q}"$'\n'"$command"; fi
  # The kernel does not deliver signals to a container's first process unless it handles them, and that process must reap
  # orphaned processes. tini does both, and returns the command's exit code.
  exec ${pkgs.tini}/bin/tini -s -g -- ${bash} -c -- "$command" ${bash} "$@"
''
