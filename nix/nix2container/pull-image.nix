# nix2container.pullImage: pulls a base image from a registry. The result is a spec for `fromImage`.
#
# A build has no access to a user's credentials. For a private registry, add a credentials file that the build users can read to
# Nix's sandbox: `extra-sandbox-paths = /etc/skopeo/auth.json=/etc/nix/skopeo/auth.json` in nix.conf.
{
  pkgs,
  nixply,
  skopeo,
  check,
  defaultArch,
  derivationName,
}:

{
  # The image's name, including the registry's host unless that is Docker Hub.
  imageName,
  # The digest of the image's manifest as printed by `skopeo inspect`: sha256:...
  imageDigest,
  # The hash of the pulled directory. If it is wrong, the error message of the build has the right one.
  sha256,
  # The platform to choose from an image index. arch may have a variant, as in arm/v7.
  os ? "linux",
  arch ? defaultArch,
  # Whether to verify the registry's certificate.
  tlsVerify ? true,
  # Whether skopeo pulls the image instead of nixply. The directory and its hash are the same. nixply verifies every certificate, so
  # skopeo also pulls if tlsVerify is false.
  useSkopeo ? false,
  # The name of the pulled directory in the store. The default is docker-image-, followed by the image's name.
  name ? null,
}:

let
  function = "pullImage";
  string = check.string function;
  image = string "imageName" imageName;

  # nixply's references name the registry: without one, the image is on Docker Hub.
  parts = builtins.filter builtins.isString (builtins.split "/" image);
  host = builtins.head parts;
  namesHost =
    builtins.length parts > 1 && (host == "localhost" || builtins.match ".*[.:].*" host != null);
  prefix = if namesHost then "" else "docker.io/";

  verifies = check.bool function "tlsVerify" tlsVerify;
  program =
    if check.bool function "useSkopeo" useSkopeo || !verifies then
      {
        source = "docker://${image}@${digest}";
        tlsVerify = pkgs.lib.boolToString verifies;
        tools = [ skopeo ];
        script = ''
          if [ -f /etc/skopeo/auth.json ]; then set -- --authfile /etc/skopeo/auth.json; else set --; fi
          variant=()
          if [[ $imageArch == */* ]]; then variant=(--override-variant "''${imageArch#*/}"); fi
          skopeo --insecure-policy --tmpdir="$TMPDIR" --override-os "$imageOs" --override-arch "''${imageArch%%/*}" \
            "''${variant[@]}" copy --src-tls-verify="$tlsVerify" "$@" "$source" "dir://$out"
        '';
      }
    else
      {
        source = "docker://${prefix}${image}@${digest}";
        tools = [ ];
        script = ''
          if [ -f /etc/skopeo/auth.json ]; then set -- --auth-file /etc/skopeo/auth.json; else set --; fi
          ${nixply}/bin/nixply pull --quiet --platform "$imageOs/$imageArch" "$@" -- "$source" "$out"
        '';
      };
  digest = string "imageDigest" imageDigest;

  # The shell gets the user's text only through variables, so it cannot run as code.
  directory =
    pkgs.runCommand
      (
        if name != null then
          string "name" name
        else
          builtins.replaceStrings [ "/" ":" ] [ "-" "-" ] "docker-image-${image}"
      )
      (
        removeAttrs program [
          "tools"
          "script"
        ]
        // {
          imageOs = string "os" os;
          imageArch = string "arch" arch;
          impureEnvVars = pkgs.lib.fetchers.proxyImpureEnvVars;
          nativeBuildInputs = [ pkgs.cacert ] ++ program.tools;
          outputHashMode = "recursive";
          outputHashAlgo = "sha256";
          outputHash = string "sha256" sha256;
        }
      )
      program.script;
in
pkgs.runCommand (derivationName "nix2container-${image}.json") { inherit directory; } ''
  ${nixply}/bin/nixply n2c image-from-dir "$out" "$directory"
''
