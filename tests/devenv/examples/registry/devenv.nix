{ pkgs, ... }:

{
  name = "myapp";

  languages.python.enable = true;

  containers.web.startupCommand = "python app.py";
  containers.web.registry = "docker://ghcr.io/me/";

  # Copied from devenv's documentation. All users of the machine can see the token while skopeo copies the container.
  processes.hello.exec = "echo Hello";

  containers."processes".registry = "docker://registry.fly.io/";
  containers."processes".defaultCopyArgs = [
    "--dest-creds"
    "x:\"$(${pkgs.flyctl}/bin/flyctl auth token)\""
  ];
}
