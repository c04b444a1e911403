# Owners and modes: `perms` change how files are in the image; in the store they stay read-only and owned by root. Here a service
# that runs as user 1000 can write to /var/lib/app, and no other user can read its configuration.
# `nix build -f examples/images/permissions`, with the plugin loaded.
{
  pkgs ? import <nixpkgs> { },
}:
let
  app = pkgs.runCommand "app" { } ''
    mkdir -p $out/etc $out/var/lib/app
    echo 'secret = false' > $out/etc/app.conf
  '';
in
builtins.nixplyImage {
  name = "permissions";
  copyToRoot = [ app ];
  perms = [
    {
      path = app;
      # A regular expression in Go's syntax, matched against the path in the store.
      regex = "/etc/app.conf$";
      mode = "0400";
      uid = 1000;
      gid = 1000;
    }
    {
      path = app;
      regex = "/var/lib/app$";
      mode = "0700";
      uid = 1000;
      gid = 1000;
      uname = "app";
      gname = "app";
    }
  ];
  config = {
    User = "1000";
    Cmd = [
      "${pkgs.coreutils}/bin/touch"
      "/var/lib/app/state"
    ];
  };
}
