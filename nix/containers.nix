# Returns the containers of a development environment: NAME -> the container's configuration, with `derivation`, `copyScript` and
# `reference`. A flake has them as `containers.SYSTEM`, where `nixply container` finds them.
{
  pkgs,
  # The environment's modules: [ ./devenv.nix ].
  modules,
  # The project's directory, which containers copy by default: a flake's `self`.
  self ? throw "nixply: a container copies the project's directory: pass the flake's `self` to lib.containers, or set `copyToRoot`",
  # The project's path that programs see.
  root ? toString self,
  # Further arguments for modules.
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
