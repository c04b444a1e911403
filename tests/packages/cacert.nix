# The certificate authorities in nixpkgs' form: one file.
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
      # Certificates without a newline at the end would run into the next one.
      for certificate in ${package}/share/ca-certificates/*/*.crt; do
        cat "$certificate"
        echo
      done > $out/etc/ssl/certs/ca-bundle.crt

      # A build with this input trusts these authorities, unless NIX_SSL_CERT_FILE names another file.
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
