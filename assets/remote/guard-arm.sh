# Arming and disarming the automatic revert, starting the change, confirming it, and saying how it stands.
# Part of the guard (see guard.sh).

boot_unit() {
    shell=$(command -v sh)
    printf '[Unit]\nDescription=gpuwizard: put back the unconfirmed change of run %s\n' "$ID"
    printf 'ConditionPathExists=%s\n' "$RUN/armed"
    printf 'RequiresMountsFor=%s' "$RUN"
    while IFS="$TAB" read -r _ _ _ _ _ _ path _; do
        printf ' "%s"' "${path%/*}"
    done <"$RUN/table"
    printf '\n'
    [ -z "$P_unit" ] || printf 'Before=%s\n' "$P_unit"
    printf '[Service]\nType=oneshot\nTimeoutStartSec=60\nExecStart=%s "%s" boot %s\n' "$shell" "$RUN/guard.sh" "$ID"
    printf '[Install]\nWantedBy=multi-user.target\n'
}

# Under the state lock, so that an interruption that comes meanwhile waits and then finds either nothing or all of it.
arm() {
    locked arm_now
}

# The order matters: from the first line on, whatever dies, either nothing is changed or a revert will come.
arm_now() {
    read_state
    [ "$STATE" = prepared ] || broken "the run is $STATE, not prepared"
    look_at_boot
    [ -z "$P_boot" ] || [ "$P_boot" = "$BOOT" ] || out_of_date "the host was restarted since the plan was made"
    time_out=$P_timeout
    tick
    printf '%s\n' "$BOOT" >"$RUN/boot"
    # The mark first: the boot unit looks for it, and clears away what an arming that died here has left.
    printf '%s\n' "$((NOW + time_out))" >"$RUN/armed"
    flush "$RUN/armed" "$RUN" || not_armed "the mark could not be written"
    boot_unit >"$BOOT_UNIT" || not_armed "the boot unit could not be written"
    # What `systemctl enable --no-reload` would do: no manager is told, the link counts at the next boot.
    { mkdir -p -m 0755 "${BOOT_LINK%/*}" && ln -sf "../${BOOT_UNIT##*/}" "$BOOT_LINK"; } >>"$RUN/log" 2>&1 &&
        flush "$BOOT_UNIT" "${BOOT_LINK%/*}" || not_armed "the boot unit could not be enabled"
    systemd-run --quiet --collect --unit="gpuwizard-revert-$ID" --on-active="${time_out}s" \
        --timer-property=AccuracySec=1s --description="gpuwizard: revert of run $ID" \
        sh "$RUN/guard.sh" revert "$ID" "it was not confirmed within $time_out s" \
        >>"$RUN/log" 2>&1 </dev/null 8>&- || not_armed "the timer could not be started"
    write_state armed "" || not_armed "the state could not be written"
    say "step arm the host reverts by itself in $time_out s unless it is confirmed"
    status
}

out_of_date() {
    disarm
    write_state abandoned "$1"
    refuse stale "$1"
}

not_armed() {
    last=$(tail -n 1 "$RUN/log" | one_line)
    disarm
    write_state abandoned "$1"
    refuse not-armed "$1: $last"
}

# The files go first: a timer that fires now finds a state that forbids it to act. What lies beside the configuration goes
# before the mark: when the host dies here, the boot unit finds the mark and clears away the rest.
disarm() {
    drop_kept
    rm -f "$BOOT_LINK" "$BOOT_UNIT" "$RUN/armed" "$RUN/reserve" "$RUN"/spare.*
    flush "$RUN"
    [ -n "$AT_BOOT" ] || ctl stop "gpuwizard-revert-$ID.timer" >/dev/null 2>&1 || :
}

# Hand the change to PID 1. Who asks again, because the first answer was lost, is told how it stands.
begin() {
    read_state
    case $STATE in
        armed)
            if ! systemd-run --quiet --collect --unit="gpuwizard-go-$ID" --description="gpuwizard: change of run $ID" \
                sh "$RUN/guard.sh" go "$ID" >>"$RUN/log" 2>&1 </dev/null; then
                last=$(tail -n 1 "$RUN/log" | one_line)
                sleep 1
                read_state
                [ "$STATE" != armed ] || broken "the change could not be started: $last"
            fi
            ;;
        none | prepared | abandoned) broken "the run is $STATE, not armed" ;;
    esac
    status
}

# Nothing was changed yet: nothing stays. An arming that was killed half-way is cleared away as well.
forget_unarmed() {
    read_state
    case $STATE in
        none | prepared)
            disarm
            rm -rf "$RUN"
            ;;
    esac
}

# Ask for the revert now; it runs under PID 1 as well.
undo() {
    locked forget_unarmed
    # What failed before is no answer to whoever asks again.
    again=
    ! transition revert-failed reverting "$1" || again=yes
    read_state
    asked=$SINCE
    case $STATE in
        armed | applying | healthy | reverting | revert-failed)
            tick
            systemd-run --quiet --collect --unit="gpuwizard-undo-$ID-$NOW" \
                --description="gpuwizard: revert of run $ID" sh "$RUN/guard.sh" revert "$ID" "$1" \
                >>"$RUN/log" 2>&1 </dev/null || not_undone
            # Until the state says so, a watcher would take the old state for the end.
            patience=20
            while read_state && [ "$patience" -gt 0 ]; do
                case "$STATE $SINCE" in armed* | applying* | healthy* | revert-failed*"$asked") ;; *) break ;; esac
                say "wait $((20 - patience)) 20 the revert begins | the run is $STATE |"
                patience=$((patience - 1))
                sleep 1
            done
            ;;
    esac
    status
}

not_undone() {
    last=$(tail -n 1 "$RUN/log" | one_line)
    [ -z "$again" ] || ! transition reverting revert-failed "the revert could not be started: $last" ||
        broken "the revert could not be started: $last"
    broken "the revert could not be started: it comes by itself in time"
}

# Has every file the bytes that we wrote? Who wrote others meanwhile must be told, not confirmed.
still_ours() {
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
        [ "$KIND" = write ] || continue
        look_at_sha "$TARGET"
        [ "$SHA" != "$AFTER" ] || continue
        WHY="$CONFIGURED was changed by somebody else after it was written"
        return 1
    done <"$RUN/table"
}

# The last look before the point of no return; the unit must be the very process that was found healthy.
still_well() {
    still_ours || return 1
    [ -n "$P_unit" ] || return 0
    read -r up_pid up_restarts <"$RUN/up" || return 1
    unit_state "$P_unit"
    if [ "$ACTIVE" != active ] || [ "$PID" != "$up_pid" ] || [ "$RESTARTS" != "$up_restarts" ]; then
        WHY="$P_unit was restarted after it was found healthy"
        return 1
    fi
    [ -n "$P_socket" ] && [ "$P_cri" = ok ] || return 0
    look_at_cri
    [ "$CRI" = ok ] || { WHY="the CRI plugin is no longer ok"; return 1; }
}

confirm() {
    read_state
    if [ "$STATE" = confirmed ]; then
        disarm
    elif [ "$STATE" = healthy ]; then
        WHY=
        rm -f "$RUN/reserve"
        if ! still_well; then
            undo "$WHY"
            return 1
        fi
        if transition healthy confirmed ""; then disarm; fi
    fi
    status
    [ "$STATE" = confirmed ]
}

status() {
    read_state
    say "state $STATE $SINCE $REASON"
    if first_line "$RUN/armed"; then
        tick
        say "deadline $((LINE - NOW))"
    fi
    look_at_boot
    ! first_line "$RUN/boot" || [ "$LINE" = "$BOOT" ] || say "rebooted"
    [ ! -s "$RUN/failure" ] || say "failure $(one_line <"$RUN/failure")"
}

# Print the log from line $1 on, until the run needs us ("healthy") or is over.
watch() {
    skipped=1 partial='' looks=0
    while :; do
        read_state
        seen=$STATE
        # The log is read on and on by the shell itself; no file of our own: a link that is cut now leaves nothing behind.
        while IFS= read -r line <&5 || { partial=$partial$line && false; }; do
            [ "$skipped" -lt "$1" ] || say "log $partial$line"
            skipped=$((skipped + 1)) partial=''
        done
        case $seen in
            healthy | confirmed | reverted | revert-failed | abandoned | none) break ;;
            armed | applying)
                looks=$((looks + 1))
                [ "$((looks % 5))" != 0 ] || ! stopped "go" || break
                ;;
            reverting)
                looks=$((looks + 1))
                [ "$((looks % 5))" != 0 ] || ! nobody_reverts || break
                ;;
        esac
        sleep 1
    done 5<"$RUN/log"
    status
}

# The script of PID 1 died without a word. Twice, because the unit may not have been there yet.
stopped() {
    ctl is-active --quiet "gpuwizard-$1-$ID.service" && return 1
    sleep 1
    read_state
    case $STATE in armed | applying) ;; *) return 1 ;; esac
    ctl is-active --quiet "gpuwizard-$1-$ID.service" && return 1
    say "stopped"
}

# Whoever put it back is gone without a word. Three times, because the next one may be about to begin.
nobody_reverts() {
    for _ in 1 2 3; do
        (flock -n 7) 7>>"$RUN/revert.lock" || return 1
        read_state
        [ "$STATE" = reverting ] || return 1
        sleep 1
    done
    say "stopped"
}
