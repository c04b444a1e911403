# The part of nixpkgs' dockerTools with files for images, without the functions that build images.
{ pkgs }:

let
  inherit (pkgs) runCommandLocal symlinkJoin writeTextDir;

  fakeNss =
    {
      extraPasswdLines ? [ ],
      extraGroupLines ? [ ],
    }:
    symlinkJoin {
      name = "fake-nss";
      paths = [
        (file "passwd" ([ "root:x:0:0:root user:/var/empty:/bin/sh" ] ++ extraPasswdLines ++ [
          "nobody:x:65534:65534:nobody:/var/empty:/bin/sh"
        ]))
        (file "group" ([ "root:x:0:" ] ++ extraGroupLines ++ [ "nobody:x:65534:" ]))
        (file "nsswitch.conf" [ "hosts: files dns" ])
        (runCommandLocal "var-empty" { } "mkdir -p $out/var/empty")
      ];
    }
    // { override = fakeNss; };

  file = name: lines: writeTextDir "etc/${name}" (builtins.concatStringsSep "\n" lines + "\n");
in
{
  # /bin/sh
  binSh = runCommandLocal "bin-sh" { } ''
    mkdir -p $out/bin
    ln -s ${pkgs.bashInteractive}/bin/bash $out/bin/sh
  '';

  # /usr/bin/env
  usrBinEnv = runCommandLocal "usr-bin-env" { } ''
    mkdir -p $out/usr/bin
    ln -s ${pkgs.coreutils}/bin/env $out/usr/bin
  '';

  # The certificate authorities, under the paths that several distributions use.
  caCertificates = runCommandLocal "ca-certificates" { } ''
    mkdir -p $out/etc/ssl/certs $out/etc/pki/tls/certs
    bundle=${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt
    ln -s $bundle $out/etc/ssl/certs/ca-bundle.crt
    ln -s $bundle $out/etc/ssl/certs/ca-certificates.crt
    ln -s $bundle $out/etc/pki/tls/certs/ca-bundle.crt
  '';

  # /etc/passwd, /etc/group and /etc/nsswitch.conf with `root` and `nobody`; `override` adds lines.
  fakeNss = fakeNss { };
}
