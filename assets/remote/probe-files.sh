# Part of the probe: the configuration files, found by following imports and sent byte for byte.
# Not POSIX: base64 head stat readlink

add_file() { # path on the host, present or not
    case $1 in /*) ;; *) return 0 ;; esac
    case "$NL$FILES" in *"$NL$1$NL"*) ;; *) FILES="$FILES$1$NL" ;; esac
}

add_existing() { # path below R, from a glob that may have matched nothing
    if [ -e "$1" ] || [ -L "$1" ]; then add_file "${1#"$R"}"; fi
}

add_tree() { # folder below R: every file in it, also the hidden ones and those in its folders
    for file in "$1"/* "$1"/.[!.]*; do
        if [ -d "$file" ] && [ ! -L "$file" ]; then add_tree "$file"; else add_existing "$file"; fi
    done
}

add_time() { # path on the host whose times are asked for, and not its content
    case "$NL${TIMES-}" in *"$NL$1$NL"*) ;; *) TIMES="${TIMES-}$1$NL" ;; esac
}

walk_imports() { # main file: adds what it imports, and what those import, breadth first (runtimes.md 1.3)
    queue=$1$NL
    walked=0
    while [ -n "$queue" ] && [ "$walked" -lt 64 ]; do
        walk_file=${queue%%"$NL"*}
        queue=${queue#*"$NL"}
        walked=$((walked + 1))
        read_imports "$R$walk_file" || continue
        set -f
        for pattern in $IMPORTS; do
            set +f
            case $pattern in /*) ;; *) pattern=${walk_file%/*}/$pattern ;; esac
            case $pattern in
            *'*'*)
                add_time "${pattern%/*}"
                # unlike the shell's, containerd's * takes in a name that begins with a dot
                for file in "$R"$pattern "$R${pattern%/*}/."${pattern##*/}; do queue_import "$file"; done
                ;;
            *)
                add_file "$pattern"
                queue_import "$R$pattern"
                ;;
            esac
        done
        set +f
    done
}

queue_import() { # path below R
    [ -e "$1" ] || return 0
    file=${1#"$R"}
    case "$NL$SEEN" in *"$NL$file$NL"*) return 0 ;; esac
    SEEN="$SEEN$file$NL"
    add_file "$file"
    queue="$queue$file$NL"
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
    import_text=${import_text%]*}
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

send_files() { # one stat for all, then one head: it says before each file which one follows
    send_list= send_absent=
    set -f
    IFS=$NL
    for path in $FILES; do
        if [ -f "$R$path" ] && [ -r "$R$path" ]; then
            send_list="$send_list$R$path$NL"
        elif [ -e "$R$path" ]; then
            unseen "$path" 'it is there but cannot be read'
        elif absent "$R$path"; then
            send_absent="$send_absent$path$NL"
        else
            unseen "$path" 'a directory on the way to it cannot be searched'
        fi
    done
    for path in ${TIMES-} /proc/self; do
        if [ -e "$R$path" ]; then send_list="$send_list$R$path$NL"; fi
    done
    # shellcheck disable=SC2086  # one path a line
    set -- $send_list
    IFS=$BLANKS
    set +f
    emit files-absent 0 "$send_absent"
    [ $# -gt 0 ] || return 0
    if first_line "$R/proc/uptime"; then emit uptime 0 "$LINE"; fi # as close to the stat as it can be
    stat_files "$@"
    set -f
    IFS=$NL
    # shellcheck disable=SC2086
    set -- $send_now
    IFS=$BLANKS
    set +f
    [ $# -gt 0 ] || return 0
    send_links "$@"
    send_content "$@"
}

stat_files() { # path below R…: emits file-stats; send_now are those to send
    send_now= send_stats= send_sum=0
    set -f
    IFS=$NL
    for line in $(stat -L -c '%a %u %g %Y %Z %s %n' -- "$@" 2>/dev/null); do
        path=/${line#* "$R"/}
        line=${line%% /*}
        send_stats="$send_stats$line $path$NL"
        case "$NL$FILES" in *"$NL$path$NL"*) ;; *) continue ;; esac
        line=${line##* }
        send_sum=$((send_sum + line))
        if [ "$line" -gt 1048576 ]; then
            unseen "$path" "it has $line bytes, which is no configuration"
        elif [ "$send_sum" -gt 4194304 ]; then
            unseen "$path" 'there are more files than are worth sending'
        else
            send_now="$send_now$R$path$NL"
        fi
    done
    IFS=$BLANKS
    set +f
    emit file-stats 0 "$send_stats"
    [ -z "$send_stats" ] || return 0
    for path; do # there is no stat: modes and times are not known, the content is
        case "$NL$FILES" in *"$NL${path#"$R"}$NL"*) send_now="$send_now$path$NL" ;; esac
    done
}

send_links() { # path below R…: where each symlink among them leads
    send_list=
    for path; do
        shift
        if [ -L "$path" ]; then set -- "$@" "$path"; fi
    done
    [ $# -gt 0 ] || return 0
    send_targets=$(readlink -f -- "$@" 2>/dev/null)
    set -f
    IFS=$NL
    for line in $send_targets; do send_list="$send_list."; done
    if [ "${#send_list}" != $# ]; then # not every readlink takes several, or one of them leads nowhere
        send_targets=
        for path; do send_targets="$send_targets$(readlink -f -- "$path" 2>/dev/null || echo .)$NL"; done
    fi
    for line in $send_targets; do
        if [ "$line" != . ]; then emit "file-target:${1#"$R"}" 0 "${line#"$ROOT_PATH"}"; fi
        shift
    done
    IFS=$BLANKS
    set +f
}

send_content() { # path below R…: all of them in one piece; the last one, empty, ends the list
    if have base64; then
        TEXT=$(head -c 1048576 -- "$@" /dev/null 2>/dev/null | base64)
        emit "files${R:+:$R}" $? "$TEXT"
    else
        TEXT=$(head -c 1048576 -- "$@" /dev/null 2>/dev/null | od -An -v -t x1)
        emit "files-hex${R:+:$R}" $? "$TEXT"
    fi
}
