# Runs the text in PROBE (all parts plus the call) as root where `sudo -n` allows it, else as the login user: one channel.
# Not POSIX: sudo
main() {
    : "${R=${GPUWIZARD_FLEET_ROOT-}}"
    if is_root; then
        run_probe "${SUDO_UID:+password}" ''
        return
    fi
    start_why=
    if command -v sudo >/dev/null 2>&1; then
        # standard output goes straight to the channel; sudo's own words come back in start_why
        { start_why=$(run_probe nopasswd '' sudo -n -- 2>&1 >&3 3>&-); start_rc=$?; } 3>&1
        [ "$start_rc" = 0 ] && return 0
        [ -n "$start_why" ] || start_why="sudo ended with status $start_rc"
    else
        start_why='sudo is not installed'
    fi
    run_probe refused "$start_why"
}

is_root() { # by the kernel's own word, without a process where it can be read
    while read -r start_key _ start_uid _; do
        if [ "$start_key" = Uid: ]; then
            [ "$start_uid" = 0 ]
            return
        fi
    done 2>/dev/null <"$R/proc/self/status"
    [ "$(id -u)" = 0 ]
}

run_probe() { # how root was had, why not, and the command that becomes root: no file is written, and nothing is in its words
    start_how=$1
    start_not=$2
    shift 2
    printf '%s\n' "$PROBE" 2>/dev/null | "$@" sh -s "$start_how" "$start_not"
}
