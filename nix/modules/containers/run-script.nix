# A script that runs an image which the container engine already has: SCRIPT [ARGUMENT...]. The engine is $NIXPLY_ENGINE, by default
# docker.
{ lib, pkgs }:

{
  # NAME:TAG
  reference,
}:

pkgs.writeShellScript "docker-run" ''
  if [ -t 0 ]; then terminal=-it; else terminal=-i; fi
  exec "''${NIXPLY_ENGINE:-docker}" run "$terminal" ${lib.escapeShellArg reference} "$@"
''
