#!/usr/bin/env bash
# From an edit of an app's one file to its first output in a container, on an environment of a gigabyte: how long
# `nixply container run` takes, with docker and with podman. Needs a Nix that is set up and a nixpkgs that it finds, nixply and
# an engine on PATH.
#
#   benches/scripts/edit-to-output.sh [RUNS]
set -euo pipefail

runs=${1:-5}
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cd "$project"

# Eight files that no codec makes smaller, the same on every machine.
cat > devenv.nix <<'NIX'
{ pkgs, ... }:
{
  name = "edit-to-output";
  languages.python.enable = true;
  env.BALLAST = pkgs.runCommand "ballast" { nativeBuildInputs = [ pkgs.openssl ]; } ''
    mkdir $out
    for n in 1 2 3 4 5 6 7 8; do
      head -c 128M /dev/zero | openssl enc -aes-128-ctr -nosalt -K $(printf '%032d' $n) -iv $(printf '%032d' 0) > $out/$n
    done
  '';
  containers.app.startupCommand = "python app.py";
}
NIX

# Seconds from now to the container's first line, which must be the edit's.
run() {
  local begin line
  begin=$(date +%s.%N)
  line=$(nixply container run app --quiet --engine "$1" --engine-args "--rm --network none" < /dev/null | head -n 1)
  [ "$line" = "$2" ] || { echo "expected $2, but the container said: $line" >&2; exit 1; }
  echo "$(date +%s.%N) $begin" | awk '{ printf "%.2f", $1 - $2 }'
}

echo "engine,run,seconds"
for engine in docker podman; do
  command -v "$engine" > /dev/null || continue
  echo "print('before', flush=True)" > app.py
  echo "$engine,first,$(run "$engine" before)"
  for n in $(seq "$runs"); do
    echo "print('edit $n of $engine at $RANDOM', flush=True)" > app.py
    echo "$engine,$n,$(run "$engine" "$(sed "s/print('//; s/', .*//" app.py)")"
  done
done
