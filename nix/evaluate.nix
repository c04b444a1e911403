# A development environment, evaluated: `evaluate { pkgs = ...; modules = [ ./devenv.nix ]; self = ./.; }`. The result is
# what lib.evalModules gives; its `config.containerBuilds.NAME` is a container as it is built.
{
  pkgs,
  modules,
  # The project's folder as it is to be copied into containers.
  self,
  # The project's folder as programs are to know it.
  root ? toString self,
  # Further arguments for modules.
  specialArgs ? { },
}:

pkgs.lib.evalModules {
  specialArgs = {
    inherit self;
    inputs = { };
  }
  // specialArgs;
  modules = [
    ./modules
    {
      _module.args.pkgs = pkgs;
      devenv.root = pkgs.lib.mkDefault root;
    }
  ]
  ++ modules;
}
