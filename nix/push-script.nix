# The script that pushes an image to a registry: `nix run .#image.push -- ghcr.io/team/app:1.0`. It passes its arguments to
# `nixply push`. Without arguments, the destination is the image's own name, if that begins with a registry's host.
{
  # A package with bin/nixply, or null.
  nixply,
  # Makes a package with a script: NAME -> text.
  script,
  # The path of the shell.
  shell,
}:

image:

let
  program =
    if nixply == null then
      throw "nixply: `push` runs the nixply program: pass its package, as in `import ./nix/build-image.nix { nixply = ...; }`"
    else
      "${nixply}/bin/nixply";

  reference = "${image.imageName}:${image.imageTag}";
  namesHost = builtins.match "([^/]*[.:][^/]*|localhost)/.*" image.imageName != null;

  # Commands for a call without arguments. Names, tags and store paths contain no quotes.
  withoutArguments =
    if namesHost then
      [ "set -- '${reference}'" ]
    else
      [
        "echo 'error: the image has the name ${reference}, which begins with no registry' >&2"
        "echo 'hint: pass the destination, as in nix run .#image.push -- ghcr.io/${reference}' >&2"
        "exit 2"
      ];
in
script "push" ''
  #!${shell}
  if [ $# -eq 0 ]; then
    ${builtins.concatStringsSep "\n  " withoutArguments}
  fi
  exec '${program}' push '${image}' "$@"
''
