# A flake with the outputs of nixpkgs that nixply's flake uses, from the tests' package set. Its `rustPlatform` returns the program
# from the tests' build. Tests copy this file to flake.nix, next to `packages/`, `lock.json` and `nixply`.
{
  outputs =
    { self }:
    let
      pkgsFor =
        system:
        let
          # Only packages for the lock file's system are ever built.
          set = import ./packages { lock = builtins.fromJSON (builtins.readFile ./lock.json); };
          nix = version: set.jq // { pname = "nix"; inherit version; };
          pkgs = set // {
            inherit system;
            # A package of Rust code: the program built before the test.
            rustPlatform.buildRustPackage =
              args:
              set.runCommand "${args.pname}-${args.version}" { inherit (args) meta; passthru = args.passthru or { }; } ''
                mkdir -p $out/bin
                cp ${./nixply} $out/bin/nixply
                installManPage() { mkdir -p $out/share/man/man1 && cp "$@" $out/share/man/man1; }
                installShellCompletion() { mkdir -p $out/completions && cp "$4" "$6" "$8" $out/completions; }
                ${args.postInstall}
              ''
              // {
                # nixpkgs' packages have these attributes as well.
                inherit (args) src cargoLock;
              };
            rustc.version = "1.95.0";
            # The script of buildRustPackage above defines the functions of this hook.
            installShellFiles = set.jq;
            stdenv = set.stdenv // {
              hostPlatform = {
                inherit system;
                isLinux = set.lib.hasSuffix "-linux" system;
                isDarwin = set.lib.hasSuffix "-darwin" system;
              };
              buildPlatform = set.stdenv.hostPlatform // { canExecute = platform: platform.system == system; };
            };
            callPackage =
              path: args:
              let
                function = import path;
                make =
                  args:
                  function (builtins.intersectAttrs (builtins.functionArgs function) (pkgs // args))
                  // {
                    override = more: make (args // more);
                  };
              in
              make args;
            # Versions that are too old, removed, supported and not yet tested, and a name without a version.
            nixVersions = {
              nix_2_18 = nix "2.18.9";
              nix_2_24 = throw "nix_2_24 has been removed";
              nix_2_31 = nix "2.31.5";
              nix_2_99 = nix "2.99.0";
              stable = nix "2.31.5";
            };
            nix = nix "2.31.5";
            boost = set.zlib;
            nlohmann_json = set.zlib;
            pkg-config = set.zlib;
          };
        in
        pkgs;
      systems = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];
      each = value: builtins.listToAttrs (map (name: { inherit name; value = value name; }) systems);
    in
    {
      legacyPackages = each pkgsFor;
      lib = (pkgsFor (builtins.fromJSON (builtins.readFile ./lock.json)).system).lib // {
        # Like nixpkgs after 26.05, without x86_64-darwin.
        systems.flakeExposed = [ "x86_64-linux" "aarch64-linux" "riscv64-linux" "aarch64-darwin" ];
      };
    };
}
