# Debian packages as derivations: one per unit of the lock file.
{
  lock,
  source,
  system,
  # Settings of units, as { unit = { argument = ...; }; }. All arguments are optional:
  #   pname        nixpkgs' name; defaults to the unit's
  #   mainProgram  the program of `nix run` and `lib.getExe`; defaults to the name
  #   only         keep only these programs
  #   links        symbolic links to add, as { path = target; }
  #   moves        absolute paths that are compiled into programs, and their replacements, as { path = path; };
  #                `@out@` is the store path, and the longest matching path counts
  #   shellIn      files, as shell patterns, in which the store's shell replaces '/bin/sh'
  arguments,
}:

let
  units = builtins.listToAttrs (map (unit: { inherit (unit) name; value = unit; }) lock.packages);

  make =
    name:
    {
      pname ? name,
      mainProgram ? pname,
      only ? [ ],
      links ? { },
      moves ? { },
      shellIn ? [ ],
    }:
    let
      inherit (units.${name}) version;
    in
    derivation {
      inherit system;
      name = "${pname}-${version}";
      builder = "/usr/bin/python3";
      args = [ "-ISB" "${./unpack}/main.py" ];
      PATH = "/usr/bin:/bin";
      LC_ALL = "C";
      spec = builtins.toJSON {
        inherit only links moves shellIn;
        debs = map (file: (source file).outPath) units.${name}.files;
        deps = map (dep: all.${dep}.outPath) units.${name}.depends;
        loader = if name == "glibc" then null else all.glibc.outPath;
        interpreters = if builtins.elem name below-bash then [ ] else [ all.bash.outPath ];
      };
    }
    // { inherit pname version; meta = { inherit mainProgram; }; };

  # bash and its dependencies. Their scripts cannot refer to bash, because that would be a cycle.
  below-bash =
    let
      closure = name: [ name ] ++ builtins.concatMap closure units.${name}.depends;
    in
    closure "bash";

  all = builtins.mapAttrs (name: _: make name (arguments.${name} or { })) units;
in
{
  # All units by name.
  inherit all;
  # A derivation of a unit with other arguments, such as another name or fewer programs.
  variant = make;
}
