# The plugin for one Nix. To load it, set `plugin-files = ${nixply-plugin}/lib/nix/plugins/libnixply.so` in nix.conf. The plugin
# works only in the Nix that it was built for. In any other, it prints one line and does nothing.
{
  lib,
  rustPlatform,
  rustc ? rustPlatform.rust.rustc or null,
  pkg-config,
  nix,
  boost,
  nlohmann_json,
  stdenv,
  # Whether to try a build for an untested Nix version.
  allowUntried ? false,
}:

let
  fitting = import ./nix-versions.nix;
  without = "images are packed in derivations without the plugin (usePlugin = false)";
  refusal =
    if !stdenv.hostPlatform.isLinux then
      "there is no plugin for ${stdenv.hostPlatform.system}, only for Linux; ${without}"
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
  # Nix's headers include those of boost and nlohmann_json.
  buildInputs = [
    nix
    boost
    nlohmann_json
  ];

  # Fail without the headers. Otherwise the build would produce a library that only reports what is missing.
  env.NIXPLY_PLUGIN_REQUIRED = "1";

  buildAndTestSubdir = "nix-plugin";
  doCheck = false;

  # The plugin does not link Nix's libraries: its symbols are resolved when Nix loads it.
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
