# Layers by hand: the interpreter has separate layers, so a change of the program changes only the small layer on top.
# `nix build -f examples/images/layers`, with the plugin loaded.
{
  pkgs ? import <nixpkgs> { },
}:
builtins.nixplyImage {
  name = "layers";
  config.Cmd = [
    "${pkgs.python3}/bin/python3"
    (pkgs.writeText "hello.py" "print('hello from the top layer')")
  ];
  # From the bottom up. Each layer omits the store paths of the layers before it.
  layers = [
    {
      deps = [ pkgs.bash ];
      metadata.comment = "the shell and the C library";
    }
    {
      deps = [ pkgs.python3 ];
      maxLayers = 4;
      strategy = "size";
      metadata.comment = "the interpreter";
    }
  ];
}
