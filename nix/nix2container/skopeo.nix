# A `skopeo` that also accepts nix:IMAGE.json as a source. It runs nixply, which starts the original skopeo.
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
