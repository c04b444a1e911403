# Python programs from wheels.
{ lock, source, system, python3 }:

let
  wheel =
    { name, version, file }:
    derivation {
      inherit system;
      name = "${name}-${version}";
      builder = "/usr/bin/python3";
      args = [ "-ISB" ./wheels.py ];
      LC_ALL = "C";
      wheels = map (wheel: (source wheel.file).outPath) lock.wheels;
      program = name;
      interpreter = python3.interpreter;
      inherit (python3) sitePackages;
    }
    // { pname = name; inherit version; meta.mainProgram = name; };
in
builtins.listToAttrs (map (w: { inherit (w) name; value = wheel w; }) lock.wheels)
