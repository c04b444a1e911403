# Evaluates a development environment: `evaluate { pkgs = ...; modules = [ ./devenv.nix ]; self = ./.; }`. Returns the result of
# lib.evalModules; its `config.containerBuilds.NAME` is a container that can be built.
{
  pkgs,
  modules,
  # The project's directory that containers copy.
  self,
  # The project's path that programs see.
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

  # An unknown option ends the evaluation with a message that does not mention devenv. Only then, evaluate again with a module for
  # a better message. That module makes all of `config` depend on all definitions.
  succeeds = (builtins.tryEval (builtins.seq evaluated.config true)).success;
  named = evaluated.extendModules { modules = [ ./modules/unknown-options.nix ]; };
in
evaluated
// {
  config = if succeeds then evaluated.config else builtins.seq named.config evaluated.config;
}
