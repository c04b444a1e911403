# Copies a container to where it is wanted: SCRIPT SPEC REGISTRY [ARGUMENT...]. REGISTRY is what stands in front of the
# image's name, "false" for the container's own; arguments are skopeo's and replace the container's own.
{
  lib,
  pkgs,
  # The program that takes nix: sources.
  skopeo,
}:

{
  # NAME:TAG
  reference,
  # The container's own, or null.
  registry,
  # Words of shell code, run when the container is copied: a token's command may be among them.
  defaultArguments,
  # How the container's options are called, for messages.
  place,
}:

pkgs.writeShellScript "copy-container" ''
  set -e -o pipefail
  container=$1 registry=$2
  shift 2

  if [[ $registry == false ]]; then
    registry=${lib.escapeShellArg (if registry == null then "" else registry)}
    if [[ -z $registry ]]; then
      echo "error: ${place}: it has no registry; set ${place}.registry, or give --registry" >&2
      exit 1
    fi
  fi
  if [[ $registry =~ ^docker://[^/]*[.:][^/]*$ ]]; then
    echo "warning: registry $registry: the image's name follows at once; is there to be a slash at the end?" >&2
  fi
  destination="$registry"${lib.escapeShellArg reference}

  # Words are split, but none is taken for a pattern of file names.
  set -f
  if [[ $# == 0 ]]; then
    arguments=(${lib.concatStringsSep " " defaultArguments})
  else
    arguments=()
    for argument in "$@"; do arguments+=($argument); done
  fi

  # skopeo knows nothing of where the user's Docker is.
  if [[ $destination == docker-daemon:* && ''${DOCKER_HOST-} =~ ^(unix|tcp): && " ''${arguments[*]}" != *" --dest-daemon-host"* ]]; then
    arguments+=(--dest-daemon-host "$DOCKER_HOST")
  elif [[ $destination == docker-daemon:* && " ''${arguments[*]}" != *" --dest-daemon-host"* && ! -S /var/run/docker.sock ]]; then
    echo "error: there is no Docker daemon at unix:///var/run/docker.sock" >&2
    echo "hint: start Docker, set DOCKER_HOST to where it is, or copy elsewhere with --registry" >&2
    exit 1
  fi

  echo
  echo "Copying container $container to $destination"
  echo

  exec ${skopeo}/bin/skopeo --insecure-policy copy "nix:$container" "$destination" "''${arguments[@]}"
''
