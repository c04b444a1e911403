# Starts a container that its engine has: SCRIPT [ARGUMENT...]. The engine is docker, or what NIXPLY_ENGINE names.
{ lib, pkgs }:

{
  # NAME:TAG
  reference,
}:

pkgs.writeShellScript "docker-run" ''
  if [ -t 0 ]; then terminal=-it; else terminal=-i; fi
  exec "''${NIXPLY_ENGINE:-docker}" run "$terminal" ${lib.escapeShellArg reference} "$@"
''
