# All modules of a devenv.nix that nixply itself evaluates, without devenv. For lib.evalModules.
{
  imports = [
    ./environment.nix
    ./languages.nix
    ./processes.nix
    ./scripts.nix
    ./containers.nix
  ];
}
