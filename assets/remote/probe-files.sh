# Part of the probe: the configuration files, found by following imports and sent byte for byte.
# Not POSIX: base64 stat readlink

add_file() { # path on the host, present or not
    case $1 in /*) ;; *) return 0 ;; esac
    case "$NL$FILES" in *"$NL$1$NL"*) ;; *) FILES="$FILES$1$NL" ;; esac
}

add_existing() { # path below R, from a glob that may have matched nothing
    if [ -e "$1" ] || [ -L "$1" ]; then add_file "${1#"$R"}"; fi
}

walk_imports() { # main file: adds what it imports, and what those import, breadth first (runtimes.md 1.3)
    queue=$1$NL
    walked=0
    while [ -n "$queue" ] && [ "$walked" -lt 64 ]; do
        walk_file=${queue%%"$NL"*}
        queue=${queue#*"$NL"}
        walked=$((walked + 1))
        read_imports "$R$walk_file" || continue
        for pattern in $IMPORTS; do
            case $pattern in /*) ;; *) pattern=${walk_file%/*}/$pattern ;; esac
            case $pattern in *[*?[]*) ;; *) add_file "$pattern" ;; esac
            for file in "$R"$pattern; do
                [ -e "$file" ] || continue
                file=${file#"$R"}
                case "$NL$SEEN" in *"$NL$file$NL"*) continue ;; esac
                SEEN="$SEEN$file$NL"
                add_file "$file"
                queue="$queue$file$NL"
            done
        done
    done
}

read_imports() { # file → IMPORTS, its patterns separated by blanks (a path with a blank is not followed)
    IMPORTS=
    [ -f "$1" ] && [ -r "$1" ] || return 1
    import_text= importing=0
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%%#*}
        if [ "$importing" = 0 ]; then
            set -f
            # shellcheck disable=SC2086  # blanks do not matter
            set -- $line
            set +f
            case "${1-}${2-}" in
            imports=* | \"imports\"=*) importing=1 ;;
            '['*) break ;;
            *) continue ;;
            esac
        fi
        import_text="$import_text $line"
        case $line in *']'*) break ;; esac
    done <"$1"
    [ "$importing" = 1 ] || return 1
    import_text=${import_text#*[}
    import_text=${import_text%%]*}
    set -f
    IFS=" ,\"'$BLANKS"
    for pattern in $import_text; do
        if [ -n "$pattern" ]; then IMPORTS="$IMPORTS $pattern"; fi
    done
    IFS=$BLANKS
    set +f
}

absent() { # path below R: true only when the way there could be walked
    abs_dir=${1%/*}
    while [ -n "$abs_dir" ] && [ ! -d "$abs_dir" ]; do abs_dir=${abs_dir%/*}; done
    [ -x "${abs_dir:-/}" ]
}

send_files() {
    set -f
    IFS=$NL
    # shellcheck disable=SC2086  # one path a line
    set -- $FILES
    IFS=$BLANKS
    set +f
    send_list=
    for path; do
        if [ -f "$R$path" ] && [ -r "$R$path" ]; then
            send_list="$send_list$R$path$NL"
        elif [ -e "$R$path" ]; then
            unseen "$path" 'it is there but cannot be read'
        elif absent "$R$path"; then
            emit file-absent 0 "$path"
        else
            unseen "$path" 'a directory on the way to it cannot be searched'
        fi
    done
    set -f
    IFS=$NL
    # shellcheck disable=SC2086
    set -- $send_list
    IFS=$BLANKS
    set +f
    [ $# -gt 0 ] || return 0
    send_stats=
    set -f
    IFS=$NL
    for line in $(stat -L -c '%a %u %g %Y %s %n' -- "$@" 2>/dev/null); do
        send_stats="$send_stats${line%% /*} /${line#* "$R"/}$NL"
    done
    IFS=$BLANKS
    set +f
    emit file-stats 0 "$send_stats"
    for path; do send_file "$path"; done
}

send_file() { # path below R
    send_name=${1#"$R"}
    if [ -L "$1" ]; then
        send_target=$(readlink -f -- "$1")
        emit "file-target:$send_name" $? "${send_target#"$ROOT_PATH"}"
    fi
    if have base64; then
        TEXT=$(base64 <"$1")
        emit "file:$send_name" $? "$TEXT"
    else
        TEXT=$(od -An -v -t x1 <"$1")
        emit "file-hex:$send_name" $? "$TEXT"
    fi
}
