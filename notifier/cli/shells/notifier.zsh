#compdef notifier
# zsh completion for notifier; belongs into a directory of $fpath, as a file called _notifier.

_notifier() {
    local kind value meaning
    local -a described plain
    while IFS=$'\t' read -r kind value meaning; do
        case $kind in
            file)
                [[ $PREFIX != --*=* ]] || compset -P '*='
                _files
                return
                ;;
            plain)
                if [[ -n $meaning ]]; then
                    described+=("${value//:/\\:}:$meaning")
                else
                    plain+=("$value")
                fi
                ;;
        esac
    done < <(env COMP_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" _NOTIFIER_COMPLETE=zsh_complete \
        ${~words[1]} 2>/dev/null)
    (( ! $#described )) || _describe -V notifier described
    (( ! $#plain )) || compadd -V notifier -a plain
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _notifier "$@"
else
    compdef _notifier notifier
fi
