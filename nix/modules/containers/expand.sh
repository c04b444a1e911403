# nixply_expand TEXT sets nixply_expanded to the text with $NAME and ${NAME} replaced by the environment's variables, as GNU's
# envsubst does with a list of them. Everything else stays: other variables may be the command's own, as in a loop. The shell does
# it by itself, because nixpkgs' `envsubst` is another program, for which a variable that is not set is empty.
nixply_expand() {
  # Values first: what is local here must not hide a variable of the environment.
  local -A nixply_values=()
  local nixply_name IFS=$'\n'
  for nixply_name in $(compgen -e); do
    nixply_values[$nixply_name]=${!nixply_name-}
  done
  # Bytes, not characters: a text may be in any encoding. No part is a pattern of file names.
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
