# The derivations that run the nixply program, with the attributes that nixpkgs' own have: `outputs`, `inputDerivation`, `meta`.
{
  # What runs in them: a program and its arguments.
  builder,
  args,
  # Where they are built.
  system,
}:

rec {
  # A derivation with these attributes. `drvAttrs` has them all.
  make =
    attributes:
    complete { } (
      derivation (
        {
          inherit system builder args;
          __structuredAttrs = true;
          # Made where its inputs are, faster than it is fetched.
          preferLocalBuild = true;
          allowSubstitutes = false;
        }
        // attributes
      )
    );

  # A JSON file of a value that may name store paths: its references are those that it names.
  file = name: content: make { inherit name; config = content; };

  # A derivation with what nixpkgs' derivations have besides, and with further attributes; each of its outputs has them, too.
  complete =
    more: drv:
    let
      outputs = drv.drvAttrs.outputs or [ "out" ];
      values = builtins.listToAttrs (
        map (name: {
          inherit name;
          value = drv.${name} // attributes;
        }) outputs
      );
      attributes =
        values
        // {
          inherit outputs;
          all = map (name: values.${name}) outputs;
          # All that is needed to build it, and nothing of what it makes: `nix-build -A image.inputDerivation`.
          inputDerivation = file "inputDerivation-${drv.name}" drv.drvAttrs;
          meta = metaOf drv { };
        }
        // more;
    in
    values.${builtins.head outputs};

  # The meta that nixpkgs gives a derivation, with what its author says of it.
  metaOf =
    drv: meta:
    {
      inherit (drv) name;
      outputsToInstall = [ (builtins.head (drv.drvAttrs.outputs or [ "out" ])) ];
      available = true;
      broken = false;
      insecure = false;
      unfree = false;
      unsupported = false;
    }
    // meta;
}
