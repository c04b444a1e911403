# Returns the containers of a development environment: a set of NAME = the container's configuration, which has `derivation`,
# `copyScript` and `reference`. `nixply container` finds them in a flake's output `containers.SYSTEM`.
{
  pkgs,
  # The environment's modules: [ ./devenv.nix ].
  modules,
  # The project's directory, which containers copy by default: a flake's `self`.
  self ? throw "nixply: a container copies the project's directory: pass the flake's `self` to lib.containers, or set `copyToRoot`",
  # The project's directory for programs of the environment (DEVENV_ROOT).
  root ? toString self,
  # Additional arguments of the modules.
  specialArgs ? { },
}:

(import ./evaluate.nix {
  inherit
    pkgs
    modules
    self
    root
    specialArgs
    ;
}).config.containerBuilds
