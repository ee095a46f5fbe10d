# The run folder, its one state file, and the lock under which that file changes.
# Part of the guard (see guard.sh).
# States: prepared, armed, applying, healthy, confirmed, reverting, reverted, revert-failed, abandoned.

TAB=$(printf '\t')

# A line of the protocol between the host and whoever started the script.
say() {
    printf '@%s\n' "$*"
}

refuse() {
    say "refused $*"
    exit 3
}

broken() {
    say "error $*"
    exit 1
}

one_line() {
    tr '\n\t\r' '   ' | cut -c 1-400
}

# Name the folder of run $1; the folder need not exist.
use_run() {
    case $1 in
        '' | -* | *[!A-Za-z0-9-]*) broken "bad run id" ;;
    esac
    ID=$1
    HOME_FOLDER="$R/var/lib/gpuwizard"
    RUN="$HOME_FOLDER/runs/$ID"
}

need_run() {
    use_run "$1"
    [ -r "$RUN/params" ] || broken "there is no run $ID on this host"
}

# The value of one parameter of the run; empty when it has none.
param() {
    while IFS= read -r param_line; do
        case $param_line in
            "$1="*)
                printf '%s\n' "${param_line#*=}"
                return
                ;;
        esac
    done <"$RUN/params"
}

note() {
    printf '%s %s\n' "$(date +%s)" "$*" >>"$RUN/log"
}

# Put files or folders on the disk, not only into memory.
flush() {
    sync "$@" 2>/dev/null || sync
}

# systemctl without our lock descriptors: a child that outlives us must not hold a lock.
ctl() {
    systemctl "$@" </dev/null 7>&- 8>&- 9>&-
}

read_state() {
    STATE=none SINCE=0 REASON=
    if [ -r "$RUN/state" ]; then
        IFS=' ' read -r STATE SINCE REASON <"$RUN/state" || :
    fi
}

# The caller holds the state lock.
write_state() {
    printf '%s %s %s\n' "$1" "$(date +%s)" "$2" >"$RUN/state.new" &&
        flush "$RUN/state.new" &&
        mv -f "$RUN/state.new" "$RUN/state" &&
        flush "$RUN" &&
        note "state $1 $2"
}

# Run a command under the state lock. It is held for one transition, one replace or one restart only.
# Who has to wait for it says who holds it.
locked() (
    if ! flock -n 8; then
        holder=''
        read -r holder <"$RUN/state.lock" || :
        note "wait 0 0 the state of the run is free | ${holder:-another step of this run} holds it |"
        flock 8 || exit 75
    fi
    echo "$role of run $ID" 2>/dev/null >"$RUN/state.lock" || :
    "$@"
) 8>>"$RUN/state.lock"

# $1 states from which it is allowed, $2 the new state, $3 why. The caller holds the state lock.
change_state() {
    read_state
    case " $1 " in
        *" $STATE "*) write_state "$2" "$3" ;;
        *) return 1 ;;
    esac
}

transition() {
    locked change_state "$@"
}

# Nothing is written or restarted for the change unless this holds, under the state lock.
still_applying() {
    read_state
    [ "$STATE" = applying ]
}

boot_id() {
    cat "$R/proc/sys/kernel/random/boot_id" 2>/dev/null || echo unknown
}
