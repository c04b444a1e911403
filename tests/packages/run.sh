# Builds a derivation with the set's own bash: runs `buildCommand`, or the phases if the derivation has no `buildCommand`.
set -e -o pipefail
shopt -s inherit_errexit

# With __structuredAttrs, Nix writes the derivation's attributes to .attrs.sh, with lists as arrays. Without it, each attribute is
# an environment variable, and a list is a text with spaces. Nix 2.8 sets NIX_ATTRS_SH_FILE to the file's path outside the sandbox,
# so the script looks for the file in the working directory.
if [ -e .attrs.sh ]; then
  source .attrs.sh
  for output in "${!outputs[@]}"; do export "$output=${outputs[$output]}"; done
fi

PATH=
hooks=()
for input in ${nativeBuildInputs[@]-} ${buildInputs[@]-} ${initialPath[@]}; do
  if [ -d "$input/bin" ]; then PATH+=${PATH:+:}$input/bin; fi
  if [ -f "$input/nix-support/setup-hook" ]; then hooks+=("$input/nix-support/setup-hook"); fi
done
export PATH
export HOME=/homeless-shelter
umask 022
for hook in "${hooks[@]}"; do source "$hook"; done

# Runs a phase with its pre and post hooks. Each is a text in the derivation, or a function that a setup hook defines.
runPhase() {
  local part
  for part in "pre${1^}" "${1}Phase" "post${1^}"; do
    if [ -n "${!part-}" ]; then
      eval "${!part}"
    elif declare -F "$part" > /dev/null; then
      "$part"
    fi
  done
}

# Makes the source the working directory, and writable.
unpackPhase() {
  [ -n "${src-}" ] || return 0
  if [ -d "$src" ]; then
    cp -r --no-preserve=mode,ownership "$src" source
    cd source
  else
    tar -xf "$src"
    cd "$(find . -mindepth 1 -maxdepth 1 -type d | sort | head -n 1)"
  fi
}

if [ -n "${buildCommandPath-}" ]; then
  source "$buildCommandPath"
elif [ -n "${buildCommand-}" ]; then
  eval "$buildCommand"
else
  [ -n "${dontUnpack-}" ] || runPhase unpack
  for phase in configure build ${doCheck:+check} install; do
    runPhase "$phase"
  done
fi
