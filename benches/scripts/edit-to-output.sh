#!/usr/bin/env bash
# Measures the time from an edit of an app's only file to the app's first output in a container: `nixply container run` with
# docker and with podman, for an environment of one gigabyte. Needs a working Nix that finds nixpkgs, and nixply and an engine
# on PATH.
#
#   benches/scripts/edit-to-output.sh [RUNS]
set -euo pipefail

runs=${1:-5}
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cd "$project"

# Eight incompressible files, the same on every machine.
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

# run ENGINE EXPECTED: prints the seconds until the container's first line of output, which must be EXPECTED.
run() {
  local begin line
  begin=$(date +%s.%N)
  line=$(nixply container run app --quiet --engine "$1" --engine-args "--rm --network none" < /dev/null | head -n 1)
  [ "$line" = "$2" ] || { echo "expected $2, got: $line" >&2; exit 1; }
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
