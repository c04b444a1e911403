# Runs instead of a shell derivation's own script: writes its variables and functions as shell code to $out. Omits the same ones
# as `nix develop`.
set -e
if [ -n "${NIX_ATTRS_SH_FILE-}" ] && [ -e "$NIX_ATTRS_SH_FILE" ]; then
  source "$NIX_ATTRS_SH_FILE"
  out=${outputs[out]}
elif [ -e .attrs.sh ]; then
  source .attrs.sh
  out=${outputs[out]}
fi
# Nix sets this value for builders without a PATH.
if [ "$PATH" = /path-not-set ]; then PATH=; fi
export IN_NIX_SHELL=impure dontAddDisableDepTrack=1
if [ -n "${stdenv-}" ]; then source "$stdenv/setup"; fi

writeEnvironment() {
  # Some of stdenv's shells lack compgen.
  local __letter __names=() __name __declaration
  for __letter in _ {a..z} {A..Z}; do
    eval "__names+=(\"\${!$__letter@}\")"
  done
  while read -r _ _ __name; do
    if [ -n "$__name" ] && [ "$__name" != writeEnvironment ]; then declare -f "$__name"; fi
  done <<< "$(declare -F)"
  for __name in "${__names[@]}"; do
    case $__name in
      # The shell's own.
      _ | __* | BASH* | COMP_* | DIRSTACK | EPOCHREALTIME | EPOCHSECONDS | EUID | FUNCNAME | GROUPS | HISTCMD | \
        HOSTNAME | IFS | LINENO | OLDPWD | OPTARG | OPTERR | OPTIND | PIPESTATUS | PPID | PS4 | PWD | RANDOM | SECONDS | \
        SHELLOPTS | SHLVL | SRANDOM | UID) ;;
      # The build's.
      HOME | NIX_ATTRS_* | NIX_BUILD_TOP | NIX_ENFORCE_PURITY | NIX_LOG_FD | NIX_REMOTE | NIX_STORE | SHELL | \
        SSL_CERT_FILE | TEMP | TEMPDIR | TERM | TMP | TMPDIR | TZ | args | builder | out | outputs) ;;
      *)
        __declaration=$(declare -p "$__name" 2> /dev/null) || continue
        # One that is not set, and one that could not be set a second time.
        if [[ $__declaration == *=* && ! $__declaration =~ ^declare\ -[a-zA-Z]*r ]]; then
          printf '%s\n' "$__declaration"
        fi
        ;;
    esac
  done
}

environment=$(writeEnvironment)
printf '%s\n' "$environment" > "$out"
