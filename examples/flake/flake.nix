# A flake with an image as a package, and with the containers of a development environment.
#   nix run .#hello.copyToPodman
#   nixply container run hello
{
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    nixply.url = "github:nixply/nixply";
    nixply.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      self,
      nixpkgs,
      nixply,
    }:
    let
      eachSystem = nixpkgs.lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
    in
    {
      packages = eachSystem (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          inherit (nixply.packages.${system}.nix2container) buildImage;
        in
        {
          hello = buildImage {
            name = "hello";
            config.entrypoint = [ "${pkgs.hello}/bin/hello" ];
          };
        }
      );

      containers = eachSystem (
        system:
        nixply.lib.containers {
          inherit self;
          pkgs = nixpkgs.legacyPackages.${system};
          modules = [ ./devenv.nix ];
        }
      );
    };
}
