# Python packages from wheels: nixpkgs' python3.pkgs.
{ lock, source, system, python3, glibc }:

let
  locked = builtins.listToAttrs (map (wheel: { inherit (wheel) name; value = wheel; }) lock.wheels);

  # A wheel and its dependencies, by name.
  closure =
    name:
    builtins.catAttrs "key" (
      builtins.genericClosure {
        startSet = [ { key = name; } ];
        operator = { key }: map (other: { key = other; }) locked.${key}.depends;
      }
    );

  # A store path has only its wheel's files. It refers to the store paths of the wheel's dependencies, and its commands search them.
  make =
    { name, version, depends, file }:
    derivation {
      inherit system glibc;
      name = "${name}-${version}";
      builder = "/usr/bin/python3";
      args = [ "-ISB" ./wheels.py ];
      PATH = "/usr/bin:/bin";
      LC_ALL = "C";
      wheel = (source file).outPath;
      imports = map (other: all.${other}.outPath) (builtins.filter (other: other != name) (closure name));
      inherit (python3) interpreter sitePackages;
    }
    // {
      pname = name;
      inherit version;
      meta.mainProgram = name;
      # This wheel and its dependencies, for environments.
      wheels = map (other: all.${other}) (closure name);
      requiredPythonModules = map (other: all.${other}) (builtins.filter (other: other != name) (closure name));
    };

  all = builtins.mapAttrs (_: make) locked;
in
all
