# Debian packages as derivations: one per unit of the lock file.
{
  lock,
  source,
  system,
  # What distinguishes a unit, as { unit = { argument = ...; }; }. All arguments are optional:
  #   pname        nixpkgs' name for it; the unit's by default
  #   mainProgram  what `nix run` and `lib.getExe` start; the name by default
  #   only         keep nothing but these programs
  #   links        symbolic links to add, as { path = target; }
  #   moves        absolute paths that are compiled into programs, and what to make of them, as { path = path; };
  #                `@out@` is the store path, and of two that fit the longer one counts
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

  # bash, and what its own scripts and its libraries' cannot have it from.
  below-bash =
    let
      closure = name: [ name ] ++ builtins.concatMap closure units.${name}.depends;
    in
    closure "bash";

  all = builtins.mapAttrs (name: _: make name (arguments.${name} or { })) units;
in
{
  # Every unit by its own name.
  inherit all;
  # A part of a unit, or the same under another name: a derivation with other arguments.
  variant = make;
}
