# Evaluates a development environment: `evaluate { pkgs = ...; modules = [ ./devenv.nix ]; self = ./.; }`. Returns the result of
# lib.evalModules; its `config.containerBuilds.NAME` is a container that can be built.
{
  pkgs,
  modules,
  # The project's directory that containers copy.
  self,
  # The project's directory for programs of the environment (DEVENV_ROOT).
  root ? toString self,
  # Additional arguments of the modules.
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

  # The error about an unknown option does not mention devenv. If there is an error, evaluate again with a module that has a better
  # message. Not in every evaluation, because that module makes all of `config` depend on all definitions.
  succeeds = (builtins.tryEval (builtins.seq evaluated.config true)).success;
  named = evaluated.extendModules { modules = [ ./modules/unknown-options.nix ]; };
in
evaluated
// {
  config = if succeeds then evaluated.config else builtins.seq named.config evaluated.config;
}
