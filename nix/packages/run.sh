# Runs a build with the set's own bash: the command of the derivation, or else its phases.
set -e -o pipefail
shopt -s inherit_errexit

PATH=
for input in $nativeBuildInputs $buildInputs $initialPath; do
  if [ -d "$input/bin" ]; then PATH+=${PATH:+:}$input/bin; fi
done
export PATH
export HOME=/homeless-shelter
umask 022

# Runs a phase, with what comes before and after it: a text of the derivation, or a function that a hook defines.
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

# The source as the working directory, writable.
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
else
  [ -n "${dontUnpack-}" ] || runPhase unpack
  for phase in configure build ${doCheck:+check} install; do
    runPhase "$phase"
  done
fi
