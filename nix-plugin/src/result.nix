# What builtins.nixplyImage gives. `nix build` takes derivations alone, so the image is one: it copies the spec, which
# lies in the store already, with nothing but the shell's own commands. `outPath` is the spec itself.
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
    # As nixpkgs' derivations have them.
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
