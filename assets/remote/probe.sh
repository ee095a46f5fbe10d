# One look at a host: prints framed sections `@@ name[:key] status bytes`, changes nothing. $1: how root was had, $2: why not.
# The other parts (probe-system.sh, probe-gpus.sh, …) travel in the same text.
# Not POSIX: timeout readlink

emit() { # name status text
    printf '@@ %s %s %s\n%s\n' "$1" "$2" "${#3}" "$3"
}

unseen() { # what why
    UNSEEN="$UNSEEN$1|$2$NL"
}

have() {
    command -v "$1" >/dev/null 2>&1
}

limit() { # seconds command…: only inside $( ), because it replaces the subshell
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

slurp() { # file → TEXT, without a process; false when it cannot be read
    TEXT=
    [ -f "$1" ] && [ -r "$1" ] || return 1
    while IFS= read -r slurp_line || [ -n "$slurp_line" ]; do
        TEXT="$TEXT$slurp_line$NL"
    done <"$1"
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
    : "${R=${GPUWIZARD_FLEET_ROOT-}}"
    if [ -z "$R" ]; then
        PATH="$PATH:/usr/sbin:/sbin:/usr/local/sbin:/usr/local/bin:/opt/bin:/opt/rke2/bin:/snap/bin:/usr/lib/wsl/lib"
        export PATH
    fi
    NL='
'
    BLANKS=" 	$NL"
    IFS=$BLANKS
    UNSEEN= FILES= SEEN= K3S=0 K3S_DATA= TIMEOUT=0 ROOT=0
    if have timeout; then TIMEOUT=1; fi
    ROOT_PATH=
    if [ -n "$R" ]; then ROOT_PATH=$(readlink -f -- "$R"); fi
    emit begin 0 gpuwizard-probe/1
    root=${1-}
    who=$(id -un 2>/dev/null)
    if [ "$(id -u)" = 0 ]; then
        ROOT=1
        [ -n "$root" ] || root=root
        who=${SUDO_USER:-$who}
    else
        unseen 'configuration, sockets and processes of root' 'the probe had no root rights'
    fi
    emit privilege "$ROOT" "$root|$who|${2-}"
    look_at_system
    look_at_packages
    look_at_machine
    look_at_pci
    look_at_driver
    look_at_companions
    look_at_toolkit
    look_at_operator
    look_at_units
    look_at_processes
    look_at_runtimes
    look_at_kubernetes
    send_files
    look_at_reach
    look_at_nvidia_smi
    emit unseen 0 "$UNSEEN"
    emit end 0 ''
}
