# The program nixply, and a link nix2container to it.
{
  lib,
  stdenv,
  rustPlatform,
  rustc ? rustPlatform.rust.rustc or null,
  installShellFiles,
}:

import ./rust.nix { inherit lib rustPlatform rustc; } {
  pname = "nixply";
  version = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package.version;
  src = import ./source.nix { };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ installShellFiles ];

  buildAndTestSubdir = "cli";
  # The tests need Nix, a registry and container engines: `cargo xtask test`.
  doCheck = false;

  postInstall = ''
    ln -s nixply $out/bin/nix2container
  ''
  # The program generates man pages and completions.
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/nixply man --dir man
    installManPage man/*.1
    for shell in bash fish zsh; do
      $out/bin/nixply completions $shell > nixply.$shell
    done
    installShellCompletion --cmd nixply --bash nixply.bash --fish nixply.fish --zsh nixply.zsh
  '';

  meta = {
    description = "OCI images from Nix closures, at the speed of the hardware";
    license = lib.licenses.mit;
    mainProgram = "nixply";
    platforms = lib.platforms.unix;
  };
}
