# The program nixply, also under the name nix2container.
{
  lib,
  rustPlatform,
}:

rustPlatform.buildRustPackage {
  pname = "nixply";
  version = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package.version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../Cargo.lock;

  buildAndTestSubdir = "cli";
  # They want a Nix, a registry and container engines: `cargo xtask test`.
  doCheck = false;

  postInstall = ''
    ln -s nixply $out/bin/nix2container
  '';

  meta = {
    description = "OCI images from Nix closures, at the speed of the hardware";
    license = lib.licenses.mit;
    mainProgram = "nixply";
    platforms = lib.platforms.unix;
  };
}
