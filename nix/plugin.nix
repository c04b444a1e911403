# The plugin for one Nix: `plugin-files = ${nixply-plugin}/lib/nix/plugins/libnixply.so` in nix.conf. A plugin is for
# the very Nix that it was built for; any other prints a line and goes on without it.
{
  lib,
  rustPlatform,
  rustc ? rustPlatform.rust.rustc or null,
  pkg-config,
  nix,
  boost,
  nlohmann_json,
  stdenv,
  # Whether to build for a Nix that nobody has tried: it compiles, or it does not.
  allowUntried ? false,
}:

let
  fitting = import ./nix-versions.nix;
  without = "images are packed in derivations without the plugin (usePlugin = false)";
  refusal =
    if !stdenv.hostPlatform.isLinux then
      "there is no plugin for ${stdenv.hostPlatform.system}, for Linux alone; ${without}"
    else if allowUntried then
      null
    else
      fitting.refusal nix;
in
lib.throwIf (refusal != null) "nixply-plugin: ${toString refusal}" import ./rust.nix { inherit lib rustPlatform rustc; } {
  pname = "nixply-plugin";
  version = "${(builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package.version}-nix-${nix.version}";
  src = import ./source.nix { };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ pkg-config ];
  # Nix's headers name both of the others.
  buildInputs = [
    nix
    boost
    nlohmann_json
  ];

  # Otherwise a library that only says what was missing would be built.
  env.NIXPLY_PLUGIN_REQUIRED = "1";

  buildAndTestSubdir = "nix-plugin";
  doCheck = false;

  # Nix brings its own libraries: what the plugin needs of them is looked up when Nix loads it.
  postInstall = ''
    mkdir -p $out/lib/nix/plugins
    mv $out/lib/libnixply_nix_plugin${stdenv.hostPlatform.extensions.sharedLibrary} $out/lib/nix/plugins/libnixply${stdenv.hostPlatform.extensions.sharedLibrary}
  '';

  passthru = { inherit nix; };

  meta = {
    description = "Nix plugin that packs OCI images while they are evaluated";
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
  };
}
