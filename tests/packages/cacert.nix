# The certificate authorities in one file, like nixpkgs' cacert.
{ system, package }:

derivation {
  inherit system;
  name = "nss-cacert-${package.version}";
  builder = "/usr/bin/bash";
  PATH = "/usr/bin:/bin";
  LC_ALL = "C";
  args = [
    "-euc"
    ''
      mkdir -p $out/etc/ssl/certs
      # Files may lack the last line break, and each certificate must start on a new line.
      for certificate in ${package}/share/ca-certificates/*/*.crt; do
        cat "$certificate"
        echo
      done > $out/etc/ssl/certs/ca-bundle.crt

      # A build with this input trusts them, unless its environment names others.
      mkdir -p $out/nix-support
      cat > $out/nix-support/setup-hook << HOOK
      if [ ! -f "\''${NIX_SSL_CERT_FILE-}" ]; then
        export NIX_SSL_CERT_FILE=$out/etc/ssl/certs/ca-bundle.crt
      fi
      export SSL_CERT_FILE=\$NIX_SSL_CERT_FILE
      HOOK
    ''
  ];
}
// { pname = "nss-cacert"; inherit (package) version; }
