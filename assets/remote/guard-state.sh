# The run folder, its one state file, and the lock under which that file changes.
# Part of the guard (see guard.sh).
# States: prepared, armed, applying, healthy, confirmed, reverting, reverted, revert-failed, abandoned.

TAB=$(printf '\t')
NL='
'

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

# Set LINE to the first line of file $1; false when there is none.
first_line() {
    LINE=
    { read -r LINE <"$1"; } 2>/dev/null || [ -n "$LINE" ]
}

# Name the folder of run $1; the folder need not exist.
use_run() {
    case $1 in
        '' | -* | *[!A-Za-z0-9-]*) broken "bad run id" ;;
    esac
    ID=$1
    HOME_FOLDER="$R/var/lib/gpuwizard"
    RUN="$HOME_FOLDER/runs/$ID"
    BOOT_UNIT="$R/etc/systemd/system/gpuwizard-boot-$ID.service"
    BOOT_LINK="$R/etc/systemd/system/multi-user.target.wants/gpuwizard-boot-$ID.service"
}

need_run() {
    use_run "$1"
    [ -r "$RUN/params" ] || broken "there is no run $ID on this host"
    load_params
}

# The parameters of the run, each in a variable of its own: P_unit, P_config, ...; empty when the run has none.
load_params() {
    P_by='' P_boot='' P_unit='' P_verb='' P_snap='' P_timeout='' P_limit='' P_hold='' P_cri='' P_handlers='' P_default=''
    P_socket='' P_binary='' P_config='' P_rendered='' P_kind='' P_options='' P_restores='' P_active0='' P_pid0='' P_cri0=''
    while IFS= read -r param_line; do
        param_value=${param_line#*=}
        case ${param_line%%=*} in
            by) P_by=$param_value ;;
            boot) P_boot=$param_value ;;
            unit) P_unit=$param_value ;;
            verb) P_verb=$param_value ;;
            snap) P_snap=$param_value ;;
            timeout) P_timeout=$param_value ;;
            limit) P_limit=$param_value ;;
            hold) P_hold=$param_value ;;
            cri) P_cri=$param_value ;;
            handlers) P_handlers=$param_value ;;
            default) P_default=$param_value ;;
            socket) P_socket=$param_value ;;
            binary) P_binary=$param_value ;;
            config) P_config=$param_value ;;
            rendered) P_rendered=$param_value ;;
            kind) P_kind=$param_value ;;
            restores) P_restores=$param_value ;;
            options) P_options=$param_value ;;
            active0) P_active0=$param_value ;;
            pid0) P_pid0=$param_value ;;
            cri0) P_cri0=$param_value ;;
        esac
    done <"$RUN/params"
}

# NOW is the time on this host, as fresh as the last call. A process reads the clock once and counts the seconds of the
# kernel from then on: each look at the clock would be one more process, and a clock that jumps meanwhile is not followed.
tick() {
    if [ -n "$R" ] || ! { read -r uptime _ <"$R/proc/uptime"; } 2>/dev/null; then
        NOW=$(date +%s)
        return
    fi
    uptime=${uptime%.*}
    [ -n "$EPOCH" ] || EPOCH=$(($(date +%s) - uptime))
    NOW=$((EPOCH + uptime))
}

note() {
    printf '%s %s\n' "$NOW" "$*" 2>/dev/null >>"$RUN/log" || :
}

# Put files or folders on the disk, not only into memory.
flush() {
    sync "$@" 2>/dev/null || sync
}

# systemctl without our lock descriptors: a child that outlives us must not hold a lock, nor keep who reads 3 waiting.
ctl() {
    systemctl "$@" </dev/null 3>&- 7>&- 8>&- 9>&-
}

read_state() {
    STATE=none SINCE=0 REASON=
    if [ -r "$RUN/state" ]; then
        IFS=' ' read -r STATE SINCE REASON <"$RUN/state" || :
    fi
}

# The caller holds the state lock.
write_state() {
    tick
    new_state "$1 $NOW $2" 2>/dev/null || spare_state "$1 $NOW $2" 2>/dev/null || return 1
    # A crash may bring the state before back: it must not where that one would forbid, or allow, a revert.
    case $1 in armed | confirmed | reverted) flush "$RUN" || return 1 ;; esac
    note "state $1 $2"
}

new_state() {
    printf '%s\n' "$1" >"$RUN/state.new" && flush "$RUN/state.new" && mv -f "$RUN/state.new" "$RUN/state" && return 0
    rm -f "$RUN/state.new"
    return 1
}

# Where no byte can be added any more: a file that was made in good time has its bytes changed in their place.
spare_state() {
    for spare in "$RUN"/spare.*; do
        [ -f "$spare" ] || return 1
        printf '%s\n' "$1" | cut -c 1-4000 | dd of="$spare" bs=4096 conv=notrunc && flush "$spare" &&
            mv -f "$spare" "$RUN/state" && return 0
    done
    return 1
}

# Space for the end of a run on a full disk: given free before it ends, and states to write over.
hold_space() {
    dd if=/dev/zero of="$RUN/reserve" bs=4096 count=64 2>/dev/null || return 1
    for spare in 1 2 3; do
        printf '%4095s\n' '' >"$RUN/spare.$spare" || return 1
    done
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

# $1 states from which it is allowed, $2 the new state, $3 why. The caller holds the state lock. 2: it is allowed, but
# the state cannot be written.
change_state() {
    read_state
    case " $1 " in
        *" $STATE "*) write_state "$2" "$3" || return 2 ;;
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

# Set BOOT to the id of this boot.
look_at_boot() {
    BOOT=
    { read -r BOOT <"$R/proc/sys/kernel/random/boot_id"; } 2>/dev/null || BOOT=${BOOT:-unknown}
}
