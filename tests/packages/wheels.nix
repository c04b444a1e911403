# Python packages from wheels: nixpkgs' python3.pkgs.
{ lock, source, system, python3, glibc }:

let
  locked = builtins.listToAttrs (map (wheel: { inherit (wheel) name; value = wheel; }) lock.wheels);

  # Returns the names of a wheel and of those that it imports, directly or indirectly.
  closure =
    name:
    builtins.catAttrs "key" (
      builtins.genericClosure {
        startSet = [ { key = name; } ];
        operator = { key }: map (other: { key = other; }) locked.${key}.depends;
      }
    );

  # A store path has only its own wheel's files. It refers to the store paths of the wheels that it imports, and its commands
  # find their directories as well.
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
      # The store paths that an environment with this wheel needs: this one and the wheels that it imports.
      wheels = map (other: all.${other}) (closure name);
      requiredPythonModules = map (other: all.${other}) (builtins.filter (other: other != name) (closure name));
    };

  all = builtins.mapAttrs (_: make) locked;
in
all
