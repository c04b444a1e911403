# nix2container.pullImage: a base image from a registry, as a spec for `fromImage`.
#
# Builds cannot see a user's credentials. For a private registry, show Nix's sandbox a file of them, readable to the build
# users: `extra-sandbox-paths = /etc/skopeo/auth.json=/etc/nix/skopeo/auth.json` in nix.conf.
{
  pkgs,
  nixply,
  skopeo,
  check,
  defaultArch,
  derivationName,
}:

{
  # The image's name, with its registry's host unless that is Docker's.
  imageName,
  # The digest of its manifest, as `skopeo inspect` shows it: sha256:...
  imageDigest,
  # The hash of the folder into which it is pulled; a wrong one tells the right one.
  sha256,
  # Which image of an index of several platforms; arch perhaps with a variant, as in arm/v7.
  os ? "linux",
  arch ? defaultArch,
  # Whether to verify the registry's certificate.
  tlsVerify ? true,
  # The folder's name in the store: docker-image- and the image's name.
  name ? null,
}:

let
  function = "pullImage";
  string = check.string function;

  # What the user has written reaches the shell as variables alone.
  folder =
    pkgs.runCommand
      (
        if name != null then
          string "name" name
        else
          builtins.replaceStrings [ "/" ":" ] [ "-" "-" ] "docker-image-${string "imageName" imageName}"
      )
      {
        source = "docker://${string "imageName" imageName}@${string "imageDigest" imageDigest}";
        imageOs = string "os" os;
        imageArch = string "arch" arch;
        tlsVerify = pkgs.lib.boolToString (check.bool function "tlsVerify" tlsVerify);
        impureEnvVars = pkgs.lib.fetchers.proxyImpureEnvVars;
        nativeBuildInputs = [
          pkgs.cacert
          skopeo
        ];
        outputHashMode = "recursive";
        outputHashAlgo = "sha256";
        outputHash = string "sha256" sha256;
      }
      ''
        if [ -f /etc/skopeo/auth.json ]; then set -- --authfile /etc/skopeo/auth.json; else set --; fi
        variant=()
        if [[ $imageArch == */* ]]; then variant=(--override-variant "''${imageArch#*/}"); fi
        skopeo --insecure-policy --tmpdir="$TMPDIR" --override-os "$imageOs" --override-arch "''${imageArch%%/*}" \
          "''${variant[@]}" copy --src-tls-verify="$tlsVerify" "$@" "$source" "dir://$out"
      '';
in
pkgs.runCommand (derivationName "nix2container-${string "imageName" imageName}.json") { inherit folder; } ''
  ${nixply}/bin/nixply n2c image-from-dir "$out" "$folder"
''
