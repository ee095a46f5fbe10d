# Hold the run lock of the host while heartbeat lines arrive on standard input: RUN OWNER-TEXT. The guard of the run is
# called over the same channel, with the lines
#     call NUMBER TAB ROLE [TAB ARGUMENT]...    what it says goes to the channel, and "@end NUMBER STATUS" behind it
#     stop                                      end the call that runs, where it only looks or prepares
# "prepare" runs the guard that came along as a payload, every other role the one that it left in the run folder.
# Other commands than POSIX: flock -n FD, setsid COMMAND (if present). Time is only ever `sleep N` and `date +%s`.
#
# Says "@lock held"; or "@lock busy TEXT" ("@lock unusable TEXT": there can be no lock here) and ends with 3; or
# "@lock waiting SECONDS LIMIT TEXT" while the former holder of the same run is made to go. It ends by itself after 30 s
# without a line, when standard input closes, at the line "release", and when the same run asks for the lock again
# (after its link was cut).

PATIENCE=15

busy() {
    printf '@lock busy %s\n' "$1"
    exit 3
}

unusable() {
    printf '@lock unusable %s\n' "$1"
    exit 3
}

# An armed change of another run counts as busy: its revert may come at any moment.
foreign_run() {
    for state in "$FOLDER"/runs/*/state; do
        [ -r "$state" ] || continue
        other=${state%/state}
        other=${other##*/}
        [ "$other" != "$RUN" ] || continue
        word='' since='' why=''
        read -r word since why <"$state" || :
        case $word in
            armed | applying | healthy | reverting)
                left=$(($(cat "$FOLDER/runs/$other/armed" 2>/dev/null || echo 0) - $(date +%s)))
                busy "run $other has a change on this host that is not confirmed yet ($word); it reverts by itself in $left s"
                ;;
        esac
    done
}

take() {
    patience=$PATIENCE
    until flock -n 9; do
        holder='' text=''
        read -r holder text <"$FOLDER/lock.owner" || :
        [ "$holder" = "$RUN" ] && [ "$patience" -gt 0 ] || busy "${text:-another run holds the lock of this host}"
        printf '@lock waiting %s %s %s\n' "$((PATIENCE - patience))" "$PATIENCE" "$text"
        printf '%s\n' "$RUN" >"$FOLDER/lock.wanted"
        patience=$((patience - 1))
        sleep 1
    done
    [ ! -e "$FOLDER/lock.wanted" ] || rm -f "$FOLDER/lock.wanted"
}

# End the holder when the laptop is silent or the same run has come again by another link. It counts what it slept: a
# clock that jumps must not end the holder, and each look at it would be a process.
watchdog() {
    seen='' silent=0
    while sleep 2; do
        beat=$seen wanted=''
        read -r beat <"$FOLDER/lock.beat" || beat=$seen
        [ ! -r "$FOLDER/lock.wanted" ] || read -r wanted <"$FOLDER/lock.wanted" || :
        silent=$((silent + 2))
        [ "$beat" = "$seen" ] || seen=$beat silent=0
        if [ "$silent" -ge 30 ] || [ "$wanted" = "$RUN" ]; then
            kill "$HOLDER" 2>/dev/null
            sleep 1
            kill -KILL "$HOLDER" 2>/dev/null
            return
        fi
    done
}

# Count the lines that were heard; what is read half-written counts as none.
beat() {
    heard=$((heard + 1))
    printf '%s\n' "$heard" >"$FOLDER/lock.beat"
} 9>&-

# One call, as a child of its own: the heartbeats are heard meanwhile. TERM is for the guard, whose end is told as any.
run_call() {
    child='' number=$1 role=$2
    shift 2
    guard="$FOLDER/runs/$RUN/guard.sh" group=
    if [ "$role" = prepare ]; then
        guard="${PAYLOADS-}/guard.sh"
        # With all that it has started: nothing of it may go on, or speak, when the next call comes.
        group=$(command -v setsid) || group=
    fi
    status=0
    if [ -r "$guard" ]; then
        trap '[ -z "$child" ] || kill -s TERM -- "${group:+-}$child" 2>/dev/null' TERM
        PAYLOADS=${PAYLOADS-} $group sh "$guard" "$role" "$RUN" "$@" &
        child=$!
        wait "$child"
        status=$?
    else
        printf '@state none 0 \n'
    fi
    printf '@end %s %s\n' "$number" "$status"
}

# A step that changes something is short, and is never cut in the middle.
stop_call() {
    case $CALLED in prepare | *watch) kill "$CALL" 2>/dev/null ;; esac
}

# $1: NUMBER TAB ROLE [TAB ARGUMENT]...
begin_call() {
    old_ifs=$IFS
    IFS=$TAB
    set -f
    # shellcheck disable=SC2086  # the tabs part it
    set -- $1
    set +f
    IFS=$old_ifs
    [ $# -gt 1 ] || return 0
    CALLED=$2
    run_call "$@" </dev/null 9>&- &
    CALL=$!
}

# What only watches is ended with us; a step is waited for, so that nobody else gets the lock in the middle of it.
end_call() {
    [ -n "$CALL" ] || return 0
    case $CALLED in *watch) kill "$CALL" 2>/dev/null ;; esac
    wait "$CALL" || :
}

main() {
    umask 077
    TAB=$(printf '\t') CALL='' CALLED=''
    RUN=$1
    FOLDER="$R/var/lib/gpuwizard"
    [ ! -L "$FOLDER" ] || unusable "$FOLDER is a symlink"
    [ -d "$FOLDER" ] || mkdir -p "$FOLDER" || unusable "$FOLDER could not be made"
    chmod 0700 "$FOLDER" || unusable "$FOLDER is not ours"
    exec 9>>"$FOLDER/lock"
    take
    foreign_run
    printf '%s %s\n' "$RUN" "$2" >"$FOLDER/lock.owner"
    heard=0
    beat
    # The process that holds the lock, whatever shell level main runs in.
    HOLDER=$(exec sh -c 'echo "$PPID"')
    watchdog </dev/null >/dev/null 2>&1 9>&- &
    dog=$!
    printf '@lock held\n'
    while IFS= read -r line; do
        case $line in
            release) break ;;
            stop) stop_call ;;
            "call "*) begin_call "${line#call }" ;;
        esac
        beat
    done
    end_call
    kill "$dog" 2>/dev/null
    : >"$FOLDER/lock.owner"
}
