# Builds the flake's packages, nix/package.nix and nix/plugin.nix, without nixpkgs: with this machine's Rust and C++ compiler, only
# from the files of nix/source.nix and vendored crates, in Nix's sandbox if there is one.
{
  # A copy of the repository with the files that git tracks.
  repository,
  # The directory with cargo and rustc, and the version of rustc.
  toolchain,
  rustVersion,
  # The vendored crates of Cargo.lock.
  vendor,
  # A persistent directory for compiled crates.
  target,
  # Prefix and version of the plugin's Nix.
  nixPrefix,
  nixVersion,
}:

let
  lib = import "${repository}/tests/packages/lib.nix";

  # Takes nixpkgs' arguments and runs the phases of its hooks for cargo, shortened.
  buildRustPackage =
    {
      pname,
      version,
      src,
      cargoLock,
      buildAndTestSubdir,
      env ? { },
      postInstall ? "",
      ...
    }:
    assert builtins.readFile cargoLock.lockFile == builtins.readFile "${src}/Cargo.lock";
    derivation (
      env
      // {
        name = "${pname}-${version}";
        system = builtins.currentSystem;
        builder = "/bin/bash";
        args = [
          "-euc"
          ''
            export HOME=$NIX_BUILD_TOP/home CARGO_HOME=$NIX_BUILD_TOP/home/cargo PATH=$toolchain/bin:/usr/bin:/bin
            # Debian's `cc` and `c++` are links through /etc, which is not in the sandbox.
            export CC=gcc CXX=g++
            mkdir -p "$CARGO_HOME" $out/bin $out/lib
            # The build must compile quickly; its result runs only once.
            cat > "$CARGO_HOME/config.toml" <<END
            [source.crates-io]
            replace-with = "vendored"
            [source.vendored]
            directory = "$vendor"
            [target."cfg(unix)"]
            linker = "gcc"
            [profile.dev]
            debug = 0
            incremental = false
            [profile.dev.package."*"]
            opt-level = 0
            [profile.dev.package.nixply-packer]
            opt-level = 0
            [profile.dev.package.nixply-planning]
            opt-level = 0
            END
            # All files of the store have the same time. Copies have a new one, so cargo rebuilds the workspace.
            cp -r --no-preserve=all "$src" source
            cd "source/$buildAndTestSubdir"
            cargo build --offline --locked --target-dir "$target"
            case $buildAndTestSubdir in
              cli) cp "$target/debug/nixply" $out/bin ;;
              *) cp "$target/debug/libnixply_nix_plugin.so" $out/lib ;;
            esac
            installManPage() { mkdir -p $out/share/man/man1 && cp "$@" $out/share/man/man1; }
            installShellCompletion() { :; }
            eval "$postInstall"
          ''
        ];
        inherit src buildAndTestSubdir postInstall toolchain vendor target;
        NIXPLY_NIX_PREFIX = nixPrefix;
        preferLocalBuild = true;
      }
    );

  platform = {
    isLinux = true;
    system = builtins.currentSystem;
    extensions.sharedLibrary = ".so";
    canExecute = _: true;
  };
  arguments = {
    inherit lib;
    stdenv = {
      hostPlatform = platform;
      buildPlatform = platform;
    };
    rustPlatform = {
      inherit buildRustPackage;
    };
    rustc.version = rustVersion;
    nix = {
      pname = "nix";
      version = nixVersion;
    };
    # The machine has these.
    installShellFiles = null;
    pkg-config = null;
    boost = null;
    nlohmann_json = null;
  };
  call =
    file:
    let
      function = import file;
    in
    function (builtins.intersectAttrs (builtins.functionArgs function) arguments);
in
[
  (call "${repository}/nix/package.nix")
  (call "${repository}/nix/plugin.nix")
]
