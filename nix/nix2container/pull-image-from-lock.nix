# nix2container.pullImageFromLock: pulls a base image that a lock file names. `nixply base lock` writes the lock file. Like pullImage, the
# result is a spec for `fromImage`.
{
  lib,
  check,
  defaultArch,
  pullImage,
}:

{
  # The lock file: `nixply base lock bases.json ghcr.io/team/base:1.2`.
  lockFile,
  # The entry's name in the lock file. The default is the only entry.
  name ? null,
  # The platform. arch may have a variant, as in arm/v7.
  os ? "linux",
  arch ? defaultArch,
  # Whether to verify the registry's certificate.
  tlsVerify ? true,
}:

let
  function = "pullImageFromLock";
  fail = message: throw "nixply: ${function}: ${toString lockFile}${message}";
  listed = set: if set == { } then "none" else builtins.concatStringsSep ", " (builtins.attrNames set);

  lock = builtins.fromJSON (builtins.readFile lockFile);
  images =
    if lock.version or null == 1 && lock ? images then
      lock.images
    else
      fail " is not a lock file of base images with version 1; write it with `nixply base lock`";
  entry =
    if name != null then
      check.string function "name" name
    else if builtins.length (builtins.attrNames images) == 1 then
      builtins.head (builtins.attrNames images)
    else
      fail " has several entries; set `name` to one of ${listed images}";
  image =
    images.${entry}
      or (fail " has no entry ${entry}; it has ${listed images}; add it with `nixply base lock`");
  platform = "${check.string function "os" os}/${check.string function "arch" arch}";
  locked =
    image.platforms.${platform}
      or (fail " has no ${platform} for ${entry}; it has ${listed image.platforms}; add it with `nixply base lock --platform`");
in
pullImage {
  imageName = image.image;
  imageDigest = locked.digest;
  inherit (locked) sha256;
  inherit os arch tlsVerify;
}
