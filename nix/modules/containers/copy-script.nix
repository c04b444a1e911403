# A script that copies a container: SCRIPT SPEC REGISTRY [ARGUMENT...]. REGISTRY is the prefix of the image's name, or "false"
# for the container's `registry` option. The arguments go to skopeo and replace the container's `defaultCopyArgs`.
{
  lib,
  pkgs,
  # A skopeo that reads nix: sources.
  skopeo,
}:

{
  # NAME:TAG
  reference,
  # The container's `registry` option, or null.
  registry,
  # Words of shell code. The script evaluates them when it copies, so they may run a command that prints a token.
  defaultArguments,
  # Whether the container is an image index.
  isIndex,
  # The path of the container's options, for messages.
  place,
}:

pkgs.writeShellScript "copy-container" ''
  set -e -o pipefail
  container=$1 registry=$2
  shift 2

  if [[ $registry == false ]]; then
    registry=${lib.escapeShellArg (if registry == null then "" else registry)}
    if [[ -z $registry ]]; then
      echo "error: ${place} has no registry; set ${place}.registry or pass --registry" >&2
      exit 1
    fi
  fi
  if [[ $registry =~ ^docker://[^/]*[.:][^/]*$ ]]; then
    echo "warning: registry $registry does not end with a slash; the image's name is appended directly" >&2
  fi
  destination="$registry"${lib.escapeShellArg reference}

  # Split words, but do not expand globs.
  set -f
  if [[ $# == 0 ]]; then
    arguments=(${lib.concatStringsSep " " defaultArguments})
  else
    arguments=()
    for argument in "$@"; do arguments+=($argument); done
  fi

  # skopeo does not read DOCKER_HOST.
  if [[ $destination == docker-daemon:* && ''${DOCKER_HOST-} =~ ^(unix|tcp): && " ''${arguments[*]}" != *" --dest-daemon-host"* ]]; then
    arguments+=(--dest-daemon-host "$DOCKER_HOST")
  elif [[ $destination == docker-daemon:* && " ''${arguments[*]}" != *" --dest-daemon-host"* && ! -S /var/run/docker.sock ]]; then
    echo "error: cannot find a Docker daemon at unix:///var/run/docker.sock" >&2
    echo "hint: start Docker, set DOCKER_HOST, or pass --registry to copy to another destination" >&2
    exit 1
  fi

${lib.optionalString isIndex ''
  # These destinations store all images of an index; the others only the one for their machine.
  if [[ $destination =~ ^(docker|oci|dir): && ! " ''${arguments[*]} " =~ " --"(all|multi-arch|override-) ]]; then
    arguments+=(--all)
  fi

''}  echo
  echo "Copying container $container to $destination"
  echo

  exec ${skopeo}/bin/skopeo --insecure-policy copy "nix:$container" "$destination" "''${arguments[@]}"
''
