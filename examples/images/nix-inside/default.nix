# An image in which Nix works: `initializeNixDatabase` adds a database of the image's store paths, so Nix knows them and does not
# collect them as garbage. `nix-build examples/images/nix-inside`, with or without the plugin.
{
  pkgs ? import <nixpkgs> { },
  nix2container ? (import ../../.. { inherit pkgs; }).nix2container,
}:
nix2container.buildImage {
  name = "nix-inside";
  copyToRoot = [
    (pkgs.buildEnv {
      name = "root";
      paths = [
        pkgs.bash
        pkgs.coreutils
        pkgs.nix
      ];
      pathsToLink = [ "/bin" ];
    })
    (pkgs.runCommand "tmp" { } "mkdir -p $out/tmp")
  ];
  initializeNixDatabase = true;
  config = {
    Env = [
      "HOME=/tmp"
      "PATH=/bin"
      "USER=root"
    ];
    Cmd = [
      "bash"
      "-c"
      "nix-store --query --requisites $(readlink -f /bin/nix-store)"
    ];
  };
}
