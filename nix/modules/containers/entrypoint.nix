# A container's entrypoint: enters the environment, expands variables in what it is given, and runs it. So what a container
# is to run is shell code, in `startupCommand` as in `docker run IMAGE CODE`.
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
  # Of the environment's variables alone: others may be the command's own, as in a loop.
  command="$(printf '%s' "$*" | ${pkgs.envsubst}/bin/envsubst "$(compgen -e | while read -r name; do printf '$%s ' "$name"; done)")"
  # A shell that is not interactive forgets the prompt, before it starts one that is.
  if [ -n "''${PS1-}" ]; then command="export PS1=''${PS1@Q}"$'\n'"$command"; fi
  # The kernel keeps signals from a container's first process unless it expects them, and that process has to bury those
  # that lose their parents. tini does both, and its exit code is the command's.
  exec ${pkgs.tini}/bin/tini -s -g -- ${bash} -c "$command"
''
