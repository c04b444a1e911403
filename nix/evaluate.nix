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

let
  evaluated = pkgs.lib.evalModules {
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
  };

  # An option that is not here ends the evaluation, in words that know nothing of devenv. Only then is it evaluated a second time,
  # for a message of ours: the module for it makes all of `config` depend on all definitions.
  succeeds = (builtins.tryEval (builtins.seq evaluated.config true)).success;
  named = evaluated.extendModules { modules = [ ./modules/unknown-options.nix ]; };
in
evaluated
// {
  config = if succeeds then evaluated.config else builtins.seq named.config evaluated.config;
}
