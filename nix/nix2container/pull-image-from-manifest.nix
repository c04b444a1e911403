# nix2container.pullImageFromManifest: a base image from a registry, whose hashes are those in its manifest.
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
  # The image's name, without a host.
  imageName,
  # The manifest's file, as getManifest prints it: `nix run .#image.getManifest > manifest.json`.
  imageManifest ? null,
  # What getManifest asks for. What is pulled, the manifest says.
  imageTag ? "latest",
  os ? "linux",
  # OCI's name for the processor, perhaps with a variant, as in arm/v7.
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
      throw "nixply: pullImageFromManifest: ${imageName} has no imageManifest: write it with the program getManifest of this image, as in `nix run .#image.getManifest > manifest.json`"
    else
      imageManifest;
  manifest =
    let
      read = builtins.fromJSON (builtins.readFile manifestFile);
    in
    if read ? layers && read ? config then
      read
    else if read ? manifests then
      throw "nixply: pullImageFromManifest: ${toString manifestFile} is an index of several platforms, not the manifest of one image; it has ${platforms read}: write the manifest of ${os}/${arch} with the program getManifest of this image, as in `nix run .#image.getManifest > manifest.json`"
    else
      throw "nixply: pullImageFromManifest: ${toString manifestFile} is not an image's manifest: there are no layers and config in it";

  platforms =
    index:
    let
      # Of attestations, builders say that they are for unknown/unknown.
      known = builtins.filter (entry: entry.platform.os or "unknown" != "unknown") (lib.toList index.manifests);
      name =
        { platform, ... }:
        "${platform.os}/${platform.architecture or "?"}${lib.optionalString (platform ? variant) "/${platform.variant}"}";
    in
    if known == [ ] then "none" else builtins.concatStringsSep ", " (map name known);

  # A blob, in a derivation whose hash is the blob's digest.
  blob =
    digest:
    let
      parts = builtins.match "(sha256|sha512):([0-9a-f]+)" digest;
      hex = builtins.elemAt parts 1;
    in
    if parts == null then
      throw "nixply: pullImageFromManifest: ${toString manifestFile} has a digest that is none: ${builtins.toJSON digest}"
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
