# Arming and disarming the automatic revert, starting the change, confirming it, and saying how it stands.
# Part of the guard (see guard.sh).

boot_unit() {
    shell=$(command -v sh)
    unit=$(param unit)
    printf '[Unit]\nDescription=gpuwizard: put back the unconfirmed change of run %s\n' "$ID"
    printf 'ConditionPathExists=%s\n' "$RUN/armed"
    printf 'RequiresMountsFor=%s' "$RUN"
    cut -f 7 "$RUN/table" | while read -r path; do
        printf ' "%s"' "${path%/*}"
    done
    printf '\n'
    [ -z "$unit" ] || printf 'Before=%s\n' "$unit"
    printf '[Service]\nType=oneshot\nTimeoutStartSec=60\nExecStart=%s "%s" boot %s\n' "$shell" "$RUN/guard.sh" "$ID"
    printf '[Install]\nWantedBy=multi-user.target\n'
}

boot_unit_path() {
    printf '%s' "$R/etc/systemd/system/gpuwizard-boot-$ID.service"
}

boot_unit_link() {
    printf '%s' "$R/etc/systemd/system/multi-user.target.wants/gpuwizard-boot-$ID.service"
}

# Under the state lock, so that an interruption that comes meanwhile waits and then finds either nothing or all of it.
arm() {
    locked arm_now
}

# The order matters: from the first line on, whatever dies, either nothing is changed or a revert will come.
arm_now() {
    read_state
    [ "$STATE" = prepared ] || broken "the run is $STATE, not prepared"
    planned=$(param boot)
    [ -z "$planned" ] || [ "$planned" = "$(boot_id)" ] || out_of_date "the host was restarted since the plan was made"
    time_out=$(param timeout)
    boot_id >"$RUN/boot"
    # The mark first: the boot unit looks for it, and clears away what an arming that died here has left.
    printf '%s\n' "$(($(date +%s) + time_out))" >"$RUN/armed"
    flush "$RUN/armed" "$RUN" || not_armed "the mark could not be written"
    boot_unit >"$(boot_unit_path)" && flush "$(boot_unit_path)" || not_armed "the boot unit could not be written"
    ctl enable --no-reload --quiet "gpuwizard-boot-$ID.service" >>"$RUN/log" 2>&1 || :
    [ -L "$(boot_unit_link)" ] || not_armed "the boot unit could not be enabled"
    systemd-run --quiet --collect --unit="gpuwizard-revert-$ID" --on-active="${time_out}s" \
        --timer-property=AccuracySec=1s --description="gpuwizard: revert of run $ID" \
        sh "$RUN/guard.sh" revert "$ID" "it was not confirmed within $time_out s" \
        >>"$RUN/log" 2>&1 </dev/null 8>&- || not_armed "the timer could not be started"
    ctl is-active --quiet "gpuwizard-revert-$ID.timer" || not_armed "the timer does not run"
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

# The files go first: a timer that fires now finds a state that forbids it to act.
disarm() {
    rm -f "$(boot_unit_link)" "$(boot_unit_path)" "$RUN/armed" "$RUN/reserve"
    flush "$RUN"
    [ -n "$AT_BOOT" ] || ctl stop "gpuwizard-revert-$ID.timer" >/dev/null 2>&1 || :
}

# Hand the change to PID 1.
begin() {
    read_state
    [ "$STATE" = armed ] || broken "the run is $STATE, not armed"
    systemd-run --quiet --collect --unit="gpuwizard-go-$ID" --description="gpuwizard: change of run $ID" \
        sh "$RUN/guard.sh" go "$ID" >>"$RUN/log" 2>&1 </dev/null ||
        broken "the change could not be started: $(tail -n 1 "$RUN/log" | one_line)"
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
    read_state
    case $STATE in
        armed | applying | healthy | reverting | revert-failed)
            systemd-run --quiet --collect --unit="gpuwizard-undo-$ID-$(date +%s)" \
                --description="gpuwizard: revert of run $ID" sh "$RUN/guard.sh" revert "$ID" "$1" \
                >>"$RUN/log" 2>&1 </dev/null || broken "the revert could not be started: it comes by itself in time"
            # Until the state says so, a watcher would take the old state for the end.
            patience=20
            while read_state && [ "$patience" -gt 0 ]; do
                case $STATE in armed | applying | healthy) ;; *) break ;; esac
                say "wait $((20 - patience)) 20 the revert begins | the run is $STATE |"
                patience=$((patience - 1))
                sleep 1
            done
            ;;
    esac
    status
}

# Has every file the bytes that we wrote? Who wrote others meanwhile must be told, not confirmed.
still_ours() {
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
        [ "$KIND" = write ] && [ "$(sha_of "$TARGET")" != "$AFTER" ] || continue
        WHY="$CONFIGURED was changed by somebody else after it was written"
        return 1
    done <"$RUN/table"
}

# The last look before the point of no return; the unit must be the very process that was found healthy.
still_well() {
    still_ours || return 1
    [ -n "$(param unit)" ] || return 0
    read -r up_pid up_restarts <"$RUN/up" || return 1
    unit_state "$(param unit)"
    if [ "$ACTIVE" != active ] || [ "$PID" != "$up_pid" ] || [ "$RESTARTS" != "$up_restarts" ]; then
        WHY="$(param unit) was restarted after it was found healthy"
        return 1
    fi
    [ "$(wanted_cri)" != ok ] || [ "$(cri_state)" = ok ] || { WHY="the CRI plugin is no longer ok"; return 1; }
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
    [ ! -r "$RUN/armed" ] || say "deadline $(($(cat "$RUN/armed") - $(date +%s)))"
    [ ! -r "$RUN/boot" ] || [ "$(cat "$RUN/boot")" = "$(boot_id)" ] || say "rebooted"
    [ ! -s "$RUN/failure" ] || say "failure $(one_line <"$RUN/failure")"
}

# Print the log from line $1 on, until the run needs us ("healthy") or is over.
watch() {
    line=$1
    while :; do
        read_state
        seen=$STATE
        # Whole lines only, and no file of our own: a link that is cut now leaves nothing behind.
        whole=$(($(wc -l <"$RUN/log")))
        if [ "$whole" -ge "$line" ]; then
            sed -n "$line,${whole}s|^|@log |p" "$RUN/log"
            line=$((whole + 1))
        fi
        case $seen in
            healthy | confirmed | reverted | revert-failed | abandoned | none) break ;;
            armed | applying) stopped "go" && break ;;
        esac
        sleep 1
    done
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
