# bash completion for notifier; belongs into a directory such as /usr/share/bash-completion/completions.

_notifier_completion() {
    local line=${COMP_LINE:0:COMP_POINT} prefix='' kind value meaning
    # Bash takes "user:1" for three words. The notifier answers whole words; bash wants what follows its last break.
    local word=${line##*[[:space:]]} breaks=${COMP_WORDBREAKS//[[:space:]\"\']/}
    [[ $word == [\"\']* || -z $breaks ]] || prefix=${word%"${word##*[$breaks]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r kind value meaning; do
        case $kind in
            file) compopt -o default ;;
            plain)
                [[ $word == [\"\']* ]] || printf -v value %q "$value"
                COMPREPLY+=("${value#"$prefix"}")
                ;;
        esac
    done < <(env COMP_LINE="$line" _NOTIFIER_COMPLETE=bash_complete "${1/#\~/$HOME}" 2>/dev/null)
}

complete -o nosort -F _notifier_completion notifier
