# A container with its own registry and credentials file: `nixply container copy web`.
{ ... }:

{
  name = "myapp";

  languages.python.enable = true;

  containers.web.startupCommand = "python app.py";
  containers.web.registry = "docker://ghcr.io/me/";

  # Arguments in shell syntax, evaluated when the container is copied. This command writes the credentials file:
  # skopeo login --authfile "$HOME/.config/ghcr.json" --username me --password-stdin ghcr.io
  containers.web.defaultCopyArgs = [ "--authfile" ''"$HOME/.config/ghcr.json"'' ];
}
