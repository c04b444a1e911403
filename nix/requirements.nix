# Whether the Nix at hand can evaluate a nixpkgs: nixpkgs says itself what it takes. `requirements nixpkgs` gives nixpkgs' folder
# back, or says what is missing and what to do, before nixpkgs ends in a text that knows nothing of nixply.
nixpkgs:

let
  # Since 26.05; older releases have minver.nix, the version alone.
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
