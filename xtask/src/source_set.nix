# The flake's packages as nix/package.nix and nix/plugin.nix describe them, built without nixpkgs: with this machine's Rust and C++
# compiler, from nix/source.nix's files and vendored crates alone, in Nix's sandbox where there is one.
{
  # A copy of the repository with the files that git knows.
  repository,
  # The folder with cargo and rustc, and the version of the latter.
  toolchain,
  rustVersion,
  # Vendored crates: what Cargo.lock names.
  vendor,
  # A folder that outlives a build, for what cargo has compiled of these crates.
  target,
  # The prefix and the version of the Nix that the plugin is for.
  nixPrefix,
  nixVersion,
}:

let
  lib = import "${repository}/tests/packages/lib.nix";

  # nixpkgs' arguments; the phases in brief, as its hooks for cargo run them.
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
            # Debian's `cc` and `c++` are links by way of /etc, which the sandbox does not show.
            export CC=gcc CXX=g++
            mkdir -p "$CARGO_HOME" $out/bin $out/lib
            # What is compiled is not run much: how long it takes to compile counts.
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
            END
            # Files of the store are all of one time: as new ones, nothing that cargo has kept counts as made of them.
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
    # What these are, the machine has.
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
