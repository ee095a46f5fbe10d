# What PID 1 runs on the host without us: replace, restart, health; and the revert, by timer, by failure or at boot.
# Part of the guard (see guard.sh).

# Seconds after which a watching unit has taken a change up (k0s waits 3 s for more of them).
WATCHED=8

restart_unit() {
    still_applying || { WHY="the run is $STATE, nothing is restarted"; return 9; }
    restart_now
}

unwritten() {
    echo "the run folder cannot be written any more: no space is left (df -h ${RUN#"$R"})"
}

restart_now() {
    unit_state "$P_unit"
    tick
    OLD_PID=$PID
    if ! { printf '%s %s\n' "$NOW" "$PID" >"$RUN/activated"; } 2>/dev/null || ! flush "$RUN/activated"; then
        # The way back does without.
        [ -n "$REVERTING" ] || { WHY=$(unwritten); return 1; }
    fi
    # Nobody is asked: the unit watches its files, and has seen the change by now or will in a moment.
    [ "$P_verb" != watched ] || return 0
    ctl reset-failed "$P_unit" >/dev/null 2>&1 || :
    if [ "$P_verb" = snap-restart ] &&
        snap restart --no-wait "$P_snap" >/dev/null 2>&1 </dev/null 3>&- 7>&- 8>&- 9>&-; then
        return 0
    fi
    # Newer systemd advises a daemon-reload here, which must not happen; what matters is seen by looking.
    if ! said=$(ctl restart --no-block "$P_unit" 2>&1 >/dev/null); then
        WHY="$P_unit could not be restarted: $(printf '%s\n' "$said" | one_line)"
        return 1
    fi
}

# The process that was told to restart; what is known of it already counts where it could not be written down.
old_pid() {
    [ ! -s "$RUN/activated" ] || read -r _ OLD_PID <"$RUN/activated"
}

# A watching unit may have restarted its runtime before we came to look: what counts is the process of before the run.
pid_before() {
    old_pid
    [ "$P_verb" != watched ] || OLD_PID=$P_pid0
}

# One attempt at the change; WHY says what failed. 9: a revert has begun, everything is its business now.
change() {
    WHY=
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
        [ "$KIND" = write ] || continue
        note "step replace $CONFIGURED"
        change_one replace_row || return
    done <"$RUN/table"
    drop_folders "$RUN/unmake"
    unit=$P_unit
    [ -n "$unit" ] || return 0
    if [ "$P_verb" = watched ]; then
        note "step restart $unit sees the change and restarts its runtime by itself"
    else
        note "step restart $unit"
    fi
    change_one restart_unit || return
    pid_before
    note "step health $unit must come up within $P_limit s and stay up for $P_hold s"
    wanted=any
    [ -z "$P_socket" ] || wanted=$P_cri
    stay_up "$P_limit" "$P_hold" "$wanted"
    case $? in
        0) ;;
        9) return 9 ;;
        *)
            last_words "$unit"
            return 1
            ;;
    esac
    handlers_live || return 1
    { printf '%s %s\n' "$up_pid" "$up_restarts" >"$RUN/up"; } 2>/dev/null || { WHY=$(unwritten); return 1; }
}

# Run one step under the state lock; what it says of a failure has to cross the subshell.
change_one() {
    WHY=$(locked step_under_lock "$1" 3>&1 >>"$RUN/log")
}

step_under_lock() {
    WHY=
    "$1"
    status=$?
    [ "$status" = 0 ] || printf '%s\n' "${WHY:-$1 failed}" >&3
    return "$status"
}

go() {
    exec >>"$RUN/log" 2>&1 </dev/null
    if ! transition armed applying ""; then
        note "info the run is not armed: nothing is done"
        return 1
    fi
    change
    case $? in
        0) ;;
        9) return 1 ;;
        *)
            note "error $WHY"
            { printf '%s\n' "$WHY" >"$RUN/failure"; } 2>/dev/null || :
            revert "$WHY"
            return 1
            ;;
    esac
    if ! transition applying healthy ""; then
        note "info the run was reverted meanwhile"
        return 1
    fi
}

# Put back what the run changed. Only one revert works at a time; a confirmed run is never reverted by it.
revert() (
    exec >>"$RUN/log" 2>&1 </dev/null
    flock -n 7 || { note "info another revert is at work"; exit 0; }
    rm -f "$RUN/reserve" # a full disk must not keep the state from being written
    begin_revert "$1" || exit 0
    REVERTING=1
    for attempt in 1 2 3; do
        FOREIGN='' WHY='' REMEDY="look at it (journalctl -e -u $P_unit)"
        if restore_all && well_again; then
            finish_revert "$1"
            exit
        fi
        note "error attempt $attempt to revert: $WHY"
        [ "$attempt" = 3 ] || sleep 5
    done
    transition "$REVERTIBLE" revert-failed "$(how_to_go_on)"
    exit 1
) 7>>"$RUN/revert.lock"

REVERTIBLE="armed applying healthy reverting revert-failed"

begin_revert() {
    transition "$REVERTIBLE" reverting "$1"
    case $? in
        0) return 0 ;;
        2)
            # The change learns from the state alone that it must not go on: then it is ended.
            note "error the state cannot be written: it is put back all the same"
            [ "$role" = go ] || [ -n "$AT_BOOT" ] || ctl stop "gpuwizard-go-$ID.service" >/dev/null 2>&1 || :
            return 0
            ;;
    esac
    read_state
    # Nothing was changed by a run that died while it was being armed.
    case $STATE in none | prepared | abandoned | confirmed | reverted) disarm ;; esac
    return 1
}

finish_revert() {
    result=$1
    [ -z "$FOREIGN" ] || result="$result; foreign change left alone:$FOREIGN"
    if transition "$REVERTIBLE" reverted "$result"; then
        disarm
        return
    fi
    # It stays armed: the next boot, or whoever asks for the revert, finds nothing left to do and says so.
    note "error it was put back, but the state cannot be written"
    return 1
}

restore_all() {
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
        if ! restore_row; then
            explain
            WHY="$CONFIGURED could not be put back: $CAUSE"
            return 1
        fi
    done <"$RUN/table.reverse"
    drop_folders "$RUN/made"
}

# Restart when the runtime may have seen the change, and see that it is as well as it was before.
well_again() {
    unit=$P_unit
    [ -n "$unit" ] && [ -z "$AT_BOOT" ] || return 0
    unit_state "$unit"
    if [ ! -e "$RUN/activated" ] && [ "$PID" = "$P_pid0" ] && [ "$P_verb" != watched ]; then
        return 0
    fi
    note "step revert-restart $unit"
    restart_now || return 1
    [ "$P_active0" = active ] || return 0
    old_pid
    if [ "$P_verb" = watched ]; then
        waiting 0 "$WATCHED" "$unit takes the files up" "it watches them"
        sleep "$WATCHED"
        OLD_PID=0
    fi
    cri=any
    [ "$P_cri0" != ok ] || cri=ok
    stay_up 90 5 "$cri" && return 0
    last_words "$unit"
    return 1
}

# At the next boot, before the runtime starts: files only, no systemctl at all.
at_boot() {
    look_at_boot
    first_line "$RUN/boot"
    if [ "$BOOT" = "$LINE" ]; then
        note "info the boot unit was started without a boot: nothing is done"
        return 0
    fi
    AT_BOOT=1
    revert "the host was restarted before the change was confirmed"
}
