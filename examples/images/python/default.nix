# A Python program as an image: `nix build -f examples/images/python`, with the plugin loaded.
{
  pkgs ? import <nixpkgs> { },
}:
builtins.nixplyImage {
  name = "python-demo";
  tag = "demo";
  config.Entrypoint = [
    "${pkgs.python3}/bin/python3"
    (pkgs.writeText "hello.py" ''
      import ssl, sys
      print(f"Hello from Python {sys.version.split()[0]} with {ssl.OPENSSL_VERSION}")
    '')
  ];
  maxLayers = 20;
}
