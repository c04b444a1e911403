# The module for nixply's own development environments, with containers. For lib.evalModules.
{
  imports = [
    ./environment.nix
    ./languages.nix
    ./processes.nix
    ./scripts.nix
    ./containers.nix
  ];
}
