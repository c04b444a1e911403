# nix2container's functions, with its arguments and the same layer digests: `nix-build examples/images/nix2container`. The attributes
# copyToPodman, copyToDockerDaemon and copyToRegistry are scripts that copy the image.
{
  pkgs ? import <nixpkgs> { },
  # As a flake input: nix2container.packages.${system}.nix2container.
  nix2container ? (import ../../.. { inherit pkgs; }).nix2container,
}:
let
  inherit (nix2container) buildImage buildLayer;
in
buildImage {
  name = "hello";
  copyToRoot = [
    (pkgs.runCommand "app" { } ''
      mkdir -p $out/bin
      ln -s ${pkgs.hello}/bin/hello $out/bin/app
    '')
  ];
  layers = [ (buildLayer { deps = [ pkgs.hello ]; }) ];
  config.entrypoint = [ "/bin/app" ];
}
