# Metadata: labels in the image's config, annotations in its manifest, a creation time, an entry in the history and a health check.
# `nix build -f examples/images/metadata`, with the plugin loaded.
{
  pkgs ? import <nixpkgs> { },
}:
builtins.nixplyImage {
  name = "metadata";
  config = {
    Cmd = [
      "${pkgs.python3}/bin/python3"
      "-m"
      "http.server"
    ];
    ExposedPorts."8000/tcp" = { };
    Labels."org.opencontainers.image.title" = "A web server";
  };
  annotations."org.opencontainers.image.source" = "https://github.com/nixply/nixply";
  # The default is the year 1, because the time of the build would make every build differ.
  created = "2026-01-01T00:00:00Z";
  layers = [
    {
      deps = [ pkgs.python3 ];
      metadata = {
        created_by = "nixply";
        comment = "the interpreter";
      };
    }
  ];
  # Docker runs it; podman ignores it in OCI images.
  healthcheck = {
    test = [
      "${pkgs.python3}/bin/python3"
      "-c"
      "import urllib.request as web; web.urlopen('http://127.0.0.1:8000')"
    ];
    interval = "30s";
    retries = 3;
  };
}
