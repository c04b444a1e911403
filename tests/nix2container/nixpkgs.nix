# A flake with the outputs of nixpkgs that nixply's flake takes, made of the tests' package set: `rustPlatform` gives the
# program that the tests have built. To be written to flake.nix beside `packages/`, `lock.json` and `nixply`.
{
  outputs =
    { self }:
    let
      pkgsFor =
        system:
        let
          # The lock file's machine is the only one for which anything is built.
          set = import ./packages { lock = builtins.fromJSON (builtins.readFile ./lock.json); };
          pkgs = set // {
            inherit system;
            # A package of Rust code: what has been built before the test.
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
                # As nixpkgs' packages, which know their source and vendored crates.
                inherit (args) src cargoLock;
              };
            # Its functions are above.
            installShellFiles = set.jq;
            stdenv = set.stdenv // {
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
            nixVersions = builtins.listToAttrs (
              map (name: { inherit name; value = set.jq // { version = name; }; }) [ "nix_2_18" "nix_2_31" "stable" ]
            );
            nix = set.jq;
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
      lib = (pkgsFor (builtins.fromJSON (builtins.readFile ./lock.json)).system).lib;
    };
}
