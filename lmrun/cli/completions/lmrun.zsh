#compdef lmrun
# zsh completion of lmrun; `lmrun completion install zsh` sets it up

_lmrun() {
  local -a found open closed
  local line="${(j: :)words[1,CURRENT-1]} $PREFIX"
  found=("${(@f)$("$words[1]" completion words -- "$line" 2>/dev/null)}")
  found=(${found:#})
  if (( ! $#found )); then
    compset -P '*='
    _files
    return
  fi
  open=(${(M)found:#*[=.,]})
  closed=(${found:#*[=.,]})
  (( $#open )) && compadd -Q -S '' -- $open
  (( $#closed )) && compadd -Q -- $closed
}

if [[ $funcstack[1] == _lmrun ]]; then
  _lmrun "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
  compdef _lmrun lmrun
fi
