#!/bin/sh
# sudo as the host's description says: without a password, with one (two forms of prompt), or not at all.
root=${GPUWIZARD_FLEET_ROOT:-${0%%/usr/*}}
IFS= read -r kind <"$root/.fleet/sudo.kind"
IFS= read -r form <"$root/.fleet/sudo.form"
me=${GPUWIZARD_FLEET_USER:-nobody}
ask=1 stdin= prompt="[sudo] password for $me: " validate=
while [ $# -gt 0 ]; do
    case $1 in
    --) shift; break ;;
    -n | --non-interactive) ask= ;;
    -S | --stdin) stdin=1 ;;
    -k | -K | -H | -E | -A) ;;
    -v) validate=1 ;;
    -p) prompt=$2; shift ;;
    -u) shift ;;
    -*) echo "sudo: invalid option $1" >&2; exit 1 ;;
    *) break ;;
    esac
    shift
done
[ "$form" != sudo-rs ] || prompt="[sudo: $prompt] Password: "

authenticate() {
    tries=0
    while [ "$tries" -lt 3 ]; do
        tries=$((tries + 1))
        printf '%s' "$prompt" >&2
        if ! IFS= read -r given; then
            printf '\nsudo: no password was provided\nsudo: a password is required\n' >&2
            exit 1
        fi
        hash=$(printf '%s' "$given" | sha256sum)
        IFS= read -r right <"$root/.fleet/sudo.hash"
        [ "${hash%% *}" != "$right" ] || return 0
        if [ "$form" = sudo-rs ]; then
            echo 'sudo: Authentication failed, try again.' >&2
        else
            echo 'Sorry, try again.' >&2
        fi
    done
    if [ "$form" = sudo-rs ]; then
        echo 'sudo: maximum 3 incorrect authentication attempts' >&2
    else
        echo 'sudo: 3 incorrect password attempts' >&2
    fi
    exit 1
}

if [ "$me" != root ]; then
    case $kind in
    root | nopasswd) ;;
    *)
        if [ -z "$ask" ]; then
            if [ "$form" = sudo-rs ]; then
                echo 'sudo: interactive authentication is required' >&2
            else
                echo 'sudo: a password is required' >&2
            fi
            exit 1
        fi
        if [ -z "$stdin" ]; then
            echo 'sudo: a terminal is required to read the password; either use the -S option to read from standard input or configure an askpass helper' >&2
            echo 'sudo: a password is required' >&2
            exit 1
        fi
        authenticate
        if [ "$kind" = none ]; then
            echo "$me is not in the sudoers file." >&2
            exit 1
        fi
        ;;
    esac
fi
[ -z "$validate" ] || exit 0
SUDO_USER=$me SUDO_UID=1000 GPUWIZARD_FLEET_USER=root HOME=$root/root USER=root LOGNAME=root
export SUDO_USER SUDO_UID GPUWIZARD_FLEET_USER HOME USER LOGNAME
[ $# -gt 0 ] || { echo 'usage: sudo command' >&2; exit 1; }
command -v "$1" >/dev/null 2>&1 || { echo "sudo: $1: command not found" >&2; exit 1; }
exec "$@"
