# The versions of Nix that the plugin supports. docs/nix-versions.md has the same list; a test compares them.
let
  # Names of Nix itself as a package, in nixpkgs and in the tests. Lix and Determinate Nix have other C++ interfaces.
  implementations = [
    "nix"
    "nix-everything"
  ];
in
rec {
  # Supported versions that are not from `oldest` to `newest`: 2.8 is Debian bookworm's.
  others = [ "2.8" ];
  oldest = "2.24";
  newest = "2.35";

  # Returns the reason why there is no plugin for a package of Nix. Null if there is one.
  refusal =
    nix:
    let
      name = nix.pname or (builtins.parseDrvName nix.name).name;
      version = nix.version or (builtins.parseDrvName nix.name).version;
      parts = builtins.match "([0-9]+\\.[0-9]+).*" version;
      short = if parts == null then version else builtins.head parts;
      isListed =
        builtins.elem short others
        || builtins.compareVersions short oldest != -1 && builtins.compareVersions short newest != 1;
      listed = "${builtins.concatStringsSep ", " others} and ${oldest} to ${newest}";
      wayOut = "take another one, as in `nixply-plugin.override { nix = pkgs.nixVersions.nix_2_31; }`, or pack images in derivations without the plugin (usePlugin = false)";
    in
    if !builtins.elem name implementations then
      "there is no plugin for ${name} ${version}: it is for Nix itself, ${listed}; ${wayOut}"
    else if !isListed then
      "the plugin has not been tested with Nix ${version}: it is for ${listed}; ${wayOut}; `allowUntried = true` builds it anyway"
    else
      null;
}
