# The scripts that copy an image or an image index. They pass their arguments to skopeo.
{ lib, writeSkopeoApplication }:

image:
let
  # skopeo copies all images of an index only with this flag. Docker and podman store only the image for their machine.
  all = lib.optionalString (image.isIndex or false) "--all ";
  reference = "${image.imageName}:${image.imageTag}";
  source = lib.escapeShellArg "nix:${image}";
  copy =
    name: where: transport:
    writeSkopeoApplication name ''
      echo ${lib.escapeShellArg "Copy to ${where} image ${reference}"}
      skopeo --insecure-policy copy ${lib.optionalString (transport == "docker://") all}${source} ${lib.escapeShellArg "${transport}${reference}"} "$@"
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
