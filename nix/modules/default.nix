# nixply's own development environments, with containers: a module for lib.evalModules.
{
  imports = [
    ./environment.nix
    ./languages.nix
    ./processes.nix
    ./scripts.nix
    ./containers.nix
  ];
}
