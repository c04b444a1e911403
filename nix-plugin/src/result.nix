# The result of builtins.nixplyImage and builtins.nixplyIndex. `nix build` accepts only derivations, so the result is a derivation. It
# copies the spec, which is already in the store, and its description, with the shell's builtin commands. `outPath` is the spec itself.
{ data, spec, description, name, system, tag }:
let
  # As in nix/derivation.nix, an image with a long name has no description: Nix's names have at most 211 characters.
  isDescribed = builtins.stringLength "${name}-description" <= 211;
  # Nix adds this file to the store only if something uses it or the derivation.
  descriptionFile = if isDescribed then builtins.toFile "${name}-description" description else "";
  copy = derivation {
    inherit name system spec descriptionFile outputs;
    builder = "/bin/sh";
    args = [
      "-c"
      ''
        copy() {
          while IFS= read -r line; do printf '%s\n' "$line"; done < "$1" > "$2"
          printf '%s' "$line" >> "$2"
        }
        copy "$spec" "$out"
        if [ -n "$descriptionFile" ]; then copy "$descriptionFile" "$description"; fi
      ''
    ];
    preferLocalBuild = true;
    allowSubstitutes = false;
  };
  outputs = [ "out" ] ++ (if isDescribed then [ "description" ] else [ ]);
  descriptionOutput =
    if isDescribed then
      {
        description = copy.description // {
          inherit (image) meta outputs;
          outPath = descriptionFile;
          # With this attribute, `nix build` builds the output instead of those in `meta.outputsToInstall`.
          outputSpecified = true;
        };
      }
    else
      { };
  hash = builtins.substring 0 32 (baseNameOf (builtins.unsafeDiscardStringContext spec));
  image = copy // data // descriptionOutput // {
    inherit outputs;
    outPath = spec;
    imageTag = if tag == "" then hash else tag;
    # Attributes of nixpkgs' derivations.
    out = image;
    all = map (output: image.${output}) outputs;
    inputDerivation = derivation {
      name = "inputDerivation-${name}";
      inherit system spec descriptionFile;
      builder = "/bin/sh";
      args = [ "-c" ''printf '%s\n' "$spec" "$descriptionFile" > "$out"'' ];
      preferLocalBuild = true;
      allowSubstitutes = false;
    };
    meta = {
      inherit name;
      outputsToInstall = [ "out" ];
      available = true;
      broken = false;
      insecure = false;
      unfree = false;
      unsupported = false;
    };
  };
in
image
