# Groups: predicates on name, size and references choose the store paths that share a layer.
# `nix build -f examples/images/groups`, with the plugin loaded.
{
  pkgs ? import <nixpkgs> { },
}:
builtins.nixplyImage {
  name = "groups";
  config.Cmd = [
    "${pkgs.python3}/bin/python3"
    (pkgs.writeText "hello.py" "print('hello')")
  ];
  # At least the sum of the groups' layers, and one more for the store paths that no group matches.
  maxLayers = 6;
  # A store path goes to the first group that matches it.
  groups = [
    # The C library in a layer, by its name without the hash.
    { name = "glibc-.*"; }
    # Large store paths, spread over three layers by size.
    {
      paths = {
        minSize = "5 MiB";
      };
      strategy = "size";
      maxLayers = 3;
    }
    # The remaining dependencies of the interpreter.
    { depsOf = pkgs.python3; }
  ];
}
