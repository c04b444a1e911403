# nixply_expand TEXT sets nixply_expanded to the text with $NAME and ${NAME} replaced by the environment's variables, like GNU's
# envsubst with a list of them. All else stays, because other variables may belong to the command, as in a loop. nixpkgs'
# `envsubst` is a different program that replaces unset variables with nothing, so the shell does it itself.
nixply_expand() {
  # Read the values first: local variables must not hide a variable of the environment.
  local -A nixply_values=()
  local nixply_name IFS=$'\n'
  for nixply_name in $(compgen -e); do
    nixply_values[$nixply_name]=${!nixply_name-}
  done
  # Compare bytes, not characters, because a text may have any encoding. Do not expand file name patterns.
  local LC_ALL=C -
  set -f
  IFS='$'
  # The last letter keeps a dollar sign at the end.
  local nixply_parts=(${1}x) nixply_part nixply_word
  nixply_parts[-1]=${nixply_parts[-1]%x}
  nixply_expanded=${nixply_parts[0]}
  for nixply_part in "${nixply_parts[@]:1}"; do
    nixply_word=${nixply_part#'{'}
    nixply_name=${nixply_word%%[!A-Za-z0-9_]*}
    if [[ $nixply_word == "$nixply_part" ]]; then
      nixply_word=$nixply_name
    elif [[ ${nixply_word:${#nixply_name}:1} == '}' ]]; then
      nixply_word='{'$nixply_name'}'
    else
      # A brace that is not closed at once, as in ${NAME:-default}, is the shell's.
      nixply_name=
    fi
    if [[ $nixply_name == [A-Za-z_]* && -v nixply_values[$nixply_name] ]]; then
      nixply_expanded+=${nixply_values[$nixply_name]}${nixply_part:${#nixply_word}}
    else
      nixply_expanded+='$'$nixply_part
    fi
  done
}
