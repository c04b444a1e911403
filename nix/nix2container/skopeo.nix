# A `skopeo` that also takes nix:IMAGE.json wherever it takes a source: nixply, which starts the real one.
{ pkgs, nixply, skopeo }:

pkgs.writeTextFile {
  name = "skopeo-nix2container";
  destination = "/bin/skopeo";
  executable = true;
  text = ''
    #!${pkgs.runtimeShell}
    export NIXPLY_SKOPEO="''${NIXPLY_SKOPEO:-${skopeo}/bin/skopeo}"
    exec ${nixply}/bin/nixply skopeo "$@"
  '';
}
