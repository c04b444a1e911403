# The result of builtins.nixplyImage and builtins.nixplyIndex. `nix build` accepts only derivations, so the result is a derivation. It copies the spec, which
# is already in the store, with the shell's builtin commands. `outPath` is the spec itself.
{ data, spec, name, system, tag }:
let
  copy = derivation {
    inherit name system spec;
    builder = "/bin/sh";
    args = [
      "-c"
      ''
        while IFS= read -r line; do printf '%s\n' "$line"; done < "$spec" > "$out"
        printf '%s' "$line" >> "$out"
      ''
    ];
    preferLocalBuild = true;
    allowSubstitutes = false;
  };
  hash = builtins.substring 0 32 (baseNameOf (builtins.unsafeDiscardStringContext spec));
  image = copy // data // {
    outPath = spec;
    imageTag = if tag == "" then hash else tag;
    # Attributes of nixpkgs' derivations.
    out = image;
    all = [ image ];
    outputs = [ "out" ];
    inputDerivation = derivation {
      name = "inputDerivation-${name}";
      inherit system spec;
      builder = "/bin/sh";
      args = [ "-c" ''printf '%s\n' "$spec" > "$out"'' ];
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
