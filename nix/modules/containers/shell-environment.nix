# Shell code that enters the environment of a shell's derivation, as `nix develop` would: its variables and functions are
# found out while this is built, its hook runs when the code is sourced.
{
  pkgs,
  # A derivation as mkShell makes it.
  shell,
}:

let
  # What is said of the outputs does not hold for this one.
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
      # Not the project's: environments that are equal share their layers.
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
  # What was there before is still found, after the shell's own.
  export PATH="$PATH''${nixply_path:+:$nixply_path}"
  export XDG_DATA_DIRS="$XDG_DATA_DIRS''${nixply_data_dirs:+:$nixply_data_dirs}"
  unset nixply_path nixply_data_dirs
  export NIX_BUILD_TOP="$(mktemp -d -t nix-shell.XXXXXX)"
  export TMP="$NIX_BUILD_TOP" TMPDIR="$NIX_BUILD_TOP" TEMP="$NIX_BUILD_TOP" TEMPDIR="$NIX_BUILD_TOP"
  eval "''${shellHook-}"
''
