# Runs the payload `probe` (all parts plus the call) as root where `sudo -n` allows it, else as the login user: one channel.
# Not POSIX: sudo
main() {
    if [ "$(id -u)" = 0 ]; then
        sh "$PAYLOADS/probe" "${SUDO_UID:+password}"
        return
    fi
    start_why=
    if command -v sudo >/dev/null 2>&1; then
        # standard output goes straight to the channel; sudo's own words come back in start_why
        { start_why=$(sudo -n -- sh "$PAYLOADS/probe" nopasswd 2>&1 >&3 3>&-); start_rc=$?; } 3>&1
        [ "$start_rc" = 0 ] && return 0
        [ -n "$start_why" ] || start_why="sudo ended with status $start_rc"
    else
        start_why='sudo is not installed'
    fi
    sh "$PAYLOADS/probe" refused "$start_why"
}
