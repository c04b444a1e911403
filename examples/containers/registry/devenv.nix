{ pkgs, ... }:

{
  name = "myapp";

  processes.hello.exec = "echo Hello";

  containers."processes".registry = "docker://registry.fly.io/";
  containers."processes".defaultCopyArgs = [
    "--dest-creds"
    "x:\"$(${pkgs.flyctl}/bin/flyctl auth token)\""
  ];
}
