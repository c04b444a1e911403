# nix2container.pullImageFromManifest: pulls a base image from a registry, and takes the hashes from a local copy of its manifest.
{
  pkgs,
  nixply,
  skopeo,
  check,
  defaultArch,
  derivationName,
  writeSkopeoApplication,
}:

{
  # The image's name without the host.
  imageName,
  # The manifest file. getManifest prints it: `nix run .#image.getManifest > manifest.json`.
  imageManifest ? null,
  # The tag and platform for getManifest. A pull only uses the manifest.
  imageTag ? "latest",
  os ? "linux",
  # The CPU architecture by its OCI name, with an optional variant, as in arm/v7.
  arch ? defaultArch,
  # Whether to verify the registry's certificate.
  tlsVerify ? true,
  # The registry's host.
  registryUrl ? "registry-1.docker.io",
}:

let
  inherit (pkgs) lib;
  function = "pullImageFromManifest";
  string = check.string function;

  repository = "docker://${string "registryUrl" registryUrl}/${string "imageName" imageName}";
  source = "${repository}:${string "imageTag" imageTag}";
  # ARCHITECTURE or ARCHITECTURE/VARIANT
  processor = lib.splitString "/" (string "arch" arch);
  verify = lib.boolToString (check.bool function "tlsVerify" tlsVerify);

  manifestFile =
    if imageManifest == null then
      throw "nixply: pullImageFromManifest: argument `imageManifest` of ${imageName} is missing; write the file with the image's program getManifest, as in `nix run .#image.getManifest > manifest.json`"
    else
      imageManifest;
  manifest =
    let
      read = builtins.fromJSON (builtins.readFile manifestFile);
    in
    if read ? layers && read ? config then
      read
    else if read ? manifests then
      throw "nixply: pullImageFromManifest: ${toString manifestFile} is an image index with the platforms ${platforms read}, not an image manifest; write the manifest for ${os}/${arch} with the image's program getManifest, as in `nix run .#image.getManifest > manifest.json`"
    else
      throw "nixply: pullImageFromManifest: ${toString manifestFile} is not an image manifest: it must have `layers` and `config`";

  platforms =
    index:
    let
      # Attestations have the platform unknown/unknown.
      known = builtins.filter (entry: entry.platform.os or "unknown" != "unknown") (lib.toList index.manifests);
      name =
        { platform, ... }:
        "${platform.os}/${platform.architecture or "?"}${lib.optionalString (platform ? variant) "/${platform.variant}"}";
    in
    if known == [ ] then "none" else builtins.concatStringsSep ", " (map name known);

  # Fetches a blob in a derivation whose output hash is the blob's digest.
  blob =
    digest:
    let
      parts = builtins.match "(sha256|sha512):([0-9a-f]+)" digest;
      hex = builtins.elemAt parts 1;
    in
    if parts == null then
      throw "nixply: pullImageFromManifest: ${toString manifestFile}: invalid digest ${builtins.toJSON digest}"
    else
      lib.nameValuePair hex (
        pkgs.runCommand hex {
          inherit source digest;
          tlsVerify = verify;
          impureEnvVars = lib.fetchers.proxyImpureEnvVars;
          nativeBuildInputs = [
            pkgs.cacert
            skopeo
          ];
          outputHashMode = "flat";
          outputHashAlgo = builtins.head parts;
          outputHash = hex;
        } ''
          if [ -f /etc/skopeo/auth.json ]; then set -- --authfile /etc/skopeo/auth.json; else set --; fi
          skopeo --insecure-policy --tmpdir="$TMPDIR" layers --tls-verify="$tlsVerify" "$@" "$source" "$digest"
          mv layers-*/"''${digest#*:}" "$out"
        ''
      );

  blobs = builtins.listToAttrs (map (layer: blob layer.digest) (manifest.layers ++ [ manifest.config ]));

  getManifest = writeSkopeoApplication "get-manifest" ''
    manifest=$(skopeo inspect --raw --tls-verify=${verify} ${lib.escapeShellArg source} "$@")
    if jq -e .manifests <<<"$manifest" >/dev/null; then
      # An index of several platforms.
      digest=$(jq -r --arg os ${lib.escapeShellArg (string "os" os)} --arg arch ${lib.escapeShellArg (builtins.head processor)} \
        --arg variant ${lib.escapeShellArg (lib.concatStringsSep "/" (builtins.tail processor))} \
        '[.manifests[] | select(.platform.os == $os and .platform.architecture == $arch
          and ($variant == "" or .platform.variant == $variant))][0].digest // empty' <<<"$manifest")
      if [ -z "$digest" ]; then
        echo ${lib.escapeShellArg "${source} has no image for ${os}/${arch}; it has:"} >&2
        jq -r '.manifests[].platform // empty | select(.os != "unknown")
          | "  " + ([.os, .architecture, .variant // empty] | join("/"))' <<<"$manifest" >&2
        exit 1
      fi
      skopeo inspect --raw --tls-verify=${verify} ${lib.escapeShellArg repository}@"$digest" "$@"
    else
      printf '%s' "$manifest"
    fi
  '';
in
pkgs.runCommand (derivationName "nix2container-${imageName}.json")
  {
    manifest = "${manifestFile}";
    blobs = pkgs.writeText (derivationName "${imageName}-blobs.json") (
      builtins.toJSON (builtins.mapAttrs (_: drv: "${drv}") blobs)
    );
    passthru = { inherit getManifest; };
  }
  ''
    ${nixply}/bin/nixply n2c image-from-manifest "$out" "$manifest" "$blobs"
  ''
