# bash completion of lmrun; `lmrun completion install bash` sets it up

_lmrun() {
  local line="${COMP_LINE:0:COMP_POINT}" word breaks prefix="" candidate
  local IFS=$'\n'
  COMPREPLY=($("$1" completion words -- "$line" 2>/dev/null))
  # Readline replaces only what follows the last = or : that breaks words.
  word="${line##*[[:space:]]}"
  breaks="${COMP_WORDBREAKS//[^=:]/}"
  if [[ -n $breaks && $word == *[$breaks]* ]]; then
    prefix="${word%"${word##*[$breaks]}"}"
  fi
  for candidate in "${!COMPREPLY[@]}"; do
    [[ ${COMPREPLY[candidate]} == *[=.,] ]] && compopt -o nospace 2>/dev/null
    COMPREPLY[candidate]="${COMPREPLY[candidate]#"$prefix"}"
  done
}

complete -o default -F _lmrun lmrun
