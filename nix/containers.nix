# The containers of a development environment, as they are built: NAME -> the container's configuration, with `derivation`,
# `copyScript` and `reference`. A flake's `containers.SYSTEM`, which `nixply container` takes them from.
{
  pkgs,
  # The environment's modules: [ ./devenv.nix ].
  modules,
  # The project's folder, which containers copy unless they say otherwise: a flake's `self`.
  self ? throw "nixply: a container copies the project's folder: give lib.containers the flake's `self`, or set `copyToRoot`",
  # The project's folder as programs are to know it.
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
