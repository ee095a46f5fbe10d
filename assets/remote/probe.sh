# One look at a host: prints framed sections `@@ name[:key] status bytes`, changes nothing. $1: how root was had, $2: why not.
# The other parts (probe-system.sh, probe-gpus.sh, …) travel in the same text.
# Not POSIX: timeout readlink

emit() { # name status text: never in a subshell, because it only joins what goes out at the next flush
    OUT="$OUT@@ $1 $2 ${#3}$NL$3$NL"
    if [ "${#OUT}" -gt 60000 ]; then flush; fi
}

flush() { # few large writes: each one costs a packet here and there
    printf %s "$OUT"
    OUT=
}

step() { # word: what is looked at from here on, for whoever waits; what comes before a step that may hang is safe then
    emit "step:$1" 0 ''
    case $STEPS,$1 in 1,* | *,reach | *,nvidia-smi) flush ;; esac
}

unseen() { # what why
    UNSEEN="$UNSEEN$1|$2$NL"
}

have() {
    command -v "$1" >/dev/null 2>&1
}

limit() { # seconds command…: only inside $( ), because it replaces the subshell. Not needed where a program reads nothing
    # but local files or the kernel's memory (grep, dpkg-query, modinfo, dmesg): each is another process
    if [ "$TIMEOUT" = 1 ]; then exec timeout "$@"; fi
    shift
    exec "$@"
}

capture() { # section seconds command…: its whole output, errors included
    cap_section=$1
    shift
    TEXT=$(limit "$@" 2>&1 </dev/null)
    STATUS=$?
    emit "$cap_section" "$STATUS" "$TEXT"
}

slurp() { # file → TEXT, without a process: for small files only, because a shell reads byte by byte; false: unreadable
    TEXT=
    [ -f "$1" ] && [ -r "$1" ] || return 1
    while IFS= read -r slurp_line || [ -n "$slurp_line" ]; do
        TEXT="$TEXT$slurp_line$NL"
        if [ "${#TEXT}" -gt 65536 ]; then
            unseen "${1#"$R"}" 'only its first 64 KiB were read'
            break
        fi
    done <"$1"
}

is_root() { # by the kernel's own word, without a process where it can be read
    while read -r root_key _ root_uid _; do
        if [ "$root_key" = Uid: ]; then
            [ "$root_uid" = 0 ]
            return
        fi
    done 2>/dev/null <"$R/proc/self/status"
    [ "$(id -u)" = 0 ]
}

first_line() { # file → LINE; false when it cannot be read
    LINE=
    [ -r "$1" ] || return 1
    IFS= read -r LINE <"$1" || [ -n "$LINE" ]
}

emit_file() { # section file: nothing when it cannot be read
    if slurp "$2"; then emit "$1" 0 "$TEXT"; fi
}

main() {
    LC_ALL=C
    export LC_ALL
    umask 077
    : "${R=${GPUWIZARD_FLEET_ROOT-}}" "${REACH=0}" "${STEPS=0}"
    if [ -z "$R" ]; then
        PATH="$PATH:/usr/sbin:/sbin:/usr/local/sbin:/usr/local/bin:/opt/bin:/opt/rke2/bin:/snap/bin:/usr/lib/wsl/lib"
        export PATH
    fi
    NL='
'
    BLANKS=" 	$NL"
    IFS=$BLANKS
    OUT=
    trap flush EXIT
    export GOGC=off GOMEMLIMIT=200MiB GOMAXPROCS=1 # programs in Go that end at once need neither collector nor threads
    UNSEEN= FILES= SEEN= K3S=0 K3S_DATA= TIMEOUT=0 ROOT=0
    if have timeout; then TIMEOUT=1; fi
    ROOT_PATH=
    if [ -n "$R" ]; then ROOT_PATH=$(readlink -f -- "$R"); fi
    emit begin 0 gpuwizard-probe/1
    root=${1-}
    if is_root; then
        ROOT=1
        [ -n "$root" ] || root=root
        who=${SUDO_USER:-$(id -un 2>/dev/null)}
    else
        who=$(id -un 2>/dev/null)
        unseen 'configuration, sockets and processes of root' 'the probe had no root rights'
    fi
    emit privilege "$ROOT" "$root|$who|${2-}"
    step system
    look_at_system
    look_at_packages
    look_at_machine
    step gpus
    look_at_pci
    step driver
    look_at_driver
    look_at_companions
    step toolkit
    look_at_toolkit
    look_at_operator
    step services
    look_at_units
    look_at_processes
    step runtimes
    look_at_runtimes
    step kubernetes
    look_at_kubernetes
    step files
    send_files
    if [ "$REACH" = 1 ]; then
        step reach
        look_at_reach
    fi
    step nvidia-smi
    look_at_nvidia_smi
    look_at_clock
    emit unseen 0 "$UNSEEN"
    emit end 0 ''
}
