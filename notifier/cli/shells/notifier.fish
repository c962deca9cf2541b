# fish completion for notifier; belongs into a directory such as /etc/fish/completions, as notifier.fish.

function __notifier_completion
    set -l line (commandline -cp | string collect)
    for item in (env COMP_LINE="$line" _NOTIFIER_COMPLETE=fish_complete notifier 2>/dev/null)
        set -l parts (string split \t -- $item)
        switch $parts[1]
            case file
                set -l option (string match -r -- '^--[^=]*=' (commandline -ct))
                for path in (__fish_complete_path (string replace -r -- '^--[^=]*=' '' (commandline -ct)))
                    echo "$option$path"
                end
            case plain
                printf '%s\t%s\n' $parts[2] $parts[3]
        end
    end
end

complete --command notifier --no-files --keep-order --arguments '(__notifier_completion)'
