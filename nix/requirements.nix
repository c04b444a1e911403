# Checks that this Nix can evaluate a nixpkgs, by nixpkgs' own list of requirements. `requirements nixpkgs` returns nixpkgs'
# directory. If a requirement is missing, it fails with the way to continue, before nixpkgs fails with a message that does not
# mention nixply.
nixpkgs:

let
  # Since 26.05. Older releases only have minver.nix with a version.
  features = nixpkgs + "/lib/minfeatures.nix";
  version = nixpkgs + "/lib/minver.nix";

  missing =
    if builtins.pathExists features then
      map (feature: feature.description) (import features).missing
    else if builtins.pathExists version && builtins.compareVersions (import version) builtins.nixVersion == 1 then
      [ "Nix ${import version}" ]
    else
      [ ];
in
if missing == [ ] then
  nixpkgs
else
  throw "nixply: this nixpkgs (${toString nixpkgs}) needs ${builtins.concatStringsSep ", " missing}, and this is Nix ${builtins.nixVersion}: use Nix 2.18 or later, or an older nixpkgs (nixos-24.05 takes Nix 2.3 and later)"
