# A file of shell code that enters the environment of a shell's derivation, like `nix develop`. The build of the file records the
# shell's variables and functions. Sourcing the file sets them and runs the shell's hook.
{
  pkgs,
  # A derivation from mkShell.
  shell,
}:

let
  # Attributes about the shell's outputs do not apply to this derivation.
  attributes = removeAttrs shell.drvAttrs [
    "allowedReferences"
    "allowedRequisites"
    "disallowedReferences"
    "disallowedRequisites"
    "outputChecks"
    "outputs"
  ];

  variables = derivation (
    attributes
    // {
      # Not the project's name, so that equal environments share their layers.
      name = "shell-environment";
      args = [ ./environment.sh ];
    }
  );
in
pkgs.writeText "shell-enter" ''
  unset shellHook
  nixply_path=''${PATH-} nixply_data_dirs=''${XDG_DATA_DIRS-}
  PATH= XDG_DATA_DIRS=
  source ${variables}
  # Keep the previous paths, after the shell's.
  export PATH="$PATH''${nixply_path:+:$nixply_path}"
  export XDG_DATA_DIRS="$XDG_DATA_DIRS''${nixply_data_dirs:+:$nixply_data_dirs}"
  unset nixply_path nixply_data_dirs
  export NIX_BUILD_TOP="$(mktemp -d -t nix-shell.XXXXXX)"
  export TMP="$NIX_BUILD_TOP" TMPDIR="$NIX_BUILD_TOP" TEMP="$NIX_BUILD_TOP" TEMPDIR="$NIX_BUILD_TOP"
  eval "''${shellHook-}"
''
