# The scripts that copy an image. They pass their arguments to skopeo.
{ lib, writeSkopeoApplication }:

image:
let
  reference = "${image.imageName}:${image.imageTag}";
  source = lib.escapeShellArg "nix:${image}";
  copy =
    name: where: transport:
    writeSkopeoApplication name ''
      echo ${lib.escapeShellArg "Copy to ${where} image ${reference}"}
      skopeo --insecure-policy copy ${source} ${lib.escapeShellArg "${transport}${reference}"} "$@"
    '';
in
{
  copyToDockerDaemon = copy "copy-to-docker-daemon" "Docker daemon" "docker-daemon:";
  copyToRegistry = copy "copy-to-registry" "Docker registry" "docker://";
  copyToPodman = copy "copy-to-podman" "podman" "containers-storage:";
  copyTo = writeSkopeoApplication "copy-to" ''
    echo ${lib.escapeShellArg "Running skopeo --insecure-policy copy nix:${image}"} "$@"
    skopeo --insecure-policy copy ${source} "$@"
  '';
}
