# Before anything changes: do the facts still hold, can it be done safely, back up, stage, judge.
# Part of the guard (see guard.sh).

# Payload "reads": sha256 TAB path of every file that the plan read.
check_reads() {
    stale=
    while IFS="$TAB" read -r wanted path; do
        have=$(sha_of "$R$path")
        [ "$have" != "$wanted" ] || continue
        changed=$(stat -c '%y' "$R$path" 2>/dev/null || echo "it is gone")
        say "stale $path was $(echo "$wanted" | cut -c 1-12), is $(echo "$have" | cut -c 1-12) ($changed)"
        stale="$stale $path"
    done <"$1"
    [ -z "$stale" ] || refuse stale "changed since the plan was made:$stale"
}

check_boot() {
    planned=$(param boot)
    if [ -n "$planned" ] && [ "$planned" != "$(boot_id)" ]; then
        refuse stale "the host was restarted since the plan was made"
    fi
}

# Can path $1 (resolved) be replaced atomically, and by root alone?
check_target() {
    folder=$(existing_folder "$1")
    [ -w "$folder" ] || refuse unsafe-path "$folder cannot be written (read-only file system?)"
    [ "$(sha_of "$1")" != special ] || refuse unsafe-path "$1 is no regular file"
    if [ -f "$1" ] && [ "$(stat -c %h "$1" 2>/dev/null || echo 1)" != 1 ]; then
        refuse unsafe-path "$1 has hard links; replacing it would cut them"
    fi
    if [ -r "$R/proc/self/mountinfo" ] && awk -v at="$1" '$5 == at { found = 1 } END { exit !found }' "$R/proc/self/mountinfo"; then
        refuse unsafe-path "$1 is a mount point and cannot be replaced"
    fi
    if [ -f "$1" ] && command -v lsattr >/dev/null 2>&1; then
        case $(lsattr -d "$1" 2>/dev/null | cut -d ' ' -f 1) in
            *i*) refuse unsafe-path "$1 is immutable (chattr +i)" ;;
        esac
    fi
    part=$folder
    while [ -n "$part" ] && [ "$part" != "$R" ]; do
        case $(ls -ld "$part") in
            d???????w[!tT]*) refuse unsafe-path "$part can be written by every user" ;;
        esac
        part=${part%/*}
    done
    check_room "$folder"
}

check_room() {
    room=$(df -P -k "$1" 2>/dev/null | awk 'NR == 2 { print $4 }')
    if [ -n "$room" ] && [ "$room" -lt 10240 ]; then
        refuse no-room "less than 10 MB are free in $1"
    fi
}

# Runs that died before they were armed: we hold the run lock, so nobody is at work on them. They hold copies of the
# configuration that nobody needs any more.
sweep() {
    for other in "$HOME_FOLDER"/runs/*/state.lock "$HOME_FOLDER"/runs/*/params; do
        other=${other%/*}
        [ -d "$other" ] && [ "$other" != "$RUN" ] || continue
        (use_run "${other##*/}" && locked forget_unarmed) || :
    done
}

make_run() {
    if [ -e "$RUN" ]; then
        read_state
        case $STATE in
            none | prepared | abandoned) rm -rf "$RUN" ;;
            *) refuse busy "run $ID is already on this host, in state $STATE" ;;
        esac
    fi
    for folder in "$HOME_FOLDER" "$HOME_FOLDER/runs" "$RUN" "$RUN/before" "$RUN/after" "$RUN/xattrs"; do
        [ ! -L "$folder" ] || refuse unsafe-path "$folder is a symlink"
        [ -d "$folder" ] || mkdir -m 0700 "$folder" || broken "$folder could not be made"
        chmod 0700 "$folder" || broken "$folder is not ours"
    done
    sweep
    check_room "$RUN"
    # Given free before a revert or a confirmation writes its state.
    dd if=/dev/zero of="$RUN/reserve" bs=4096 count=64 2>/dev/null || broken "$RUN could not be written"
    cp "$PAYLOADS/guard" "$RUN/guard.sh" && cp "$PAYLOADS/params" "$RUN/params" || broken "$RUN could not be written"
    printf 'seq=%s\n' "$(next_number)" >>"$RUN/params"
}

# Payload "files": kind TAB before TAB after TAB mode TAB number TAB path; the bytes are in after-NUMBER.
table_from_plan() {
    while IFS="$TAB" read -r KIND BEFORE AFTER MODE N CONFIGURED; do
        TARGET=$(resolve "$R$CONFIGURED") || refuse unsafe-path "$CONFIGURED cannot be resolved"
        check_target "$TARGET"
        [ "$(sha_of "$TARGET")" = "$BEFORE" ] || refuse stale "$CONFIGURED was changed since the plan was made"
        if [ "$AFTER" != absent ]; then
            cp "$PAYLOADS/after-$N" "$RUN/after/$N" && [ "$(sha_of "$RUN/after/$N")" = "$AFTER" ] ||
                broken "$CONFIGURED could not be staged"
        fi
        add_row keep
    done <"$1"
}

# Back up row $N and write it to the table. An undo row changes nothing until the revert.
add_row() {
    META=$1
    [ -n "$MODE" ] && [ -n "$TARGET" ] && [ -n "$CONFIGURED" ] || broken "a row of the table is damaged"
    if [ "$BEFORE" != absent ]; then
        cp -a "$TARGET" "$RUN/before/$N" && [ "$(sha_of "$RUN/before/$N")" = "$BEFORE" ] ||
            broken "$CONFIGURED could not be backed up"
        if command -v getfattr >/dev/null 2>&1; then
            getfattr -h -d -m - -e hex --absolute-names "$TARGET" >"$RUN/xattrs/before-$N" 2>/dev/null || :
        fi
    fi
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$N" "$KIND" "$BEFORE" "$AFTER" "$MODE" "$META" "$TARGET" "$CONFIGURED" >>"$RUN/table"
}

# What the unit and its CRI are like now: a revert need not make them better than that.
remember_health() {
    if [ -z "$(param unit)" ]; then
        return 0
    fi
    unit_state "$(param unit)"
    cri=-
    [ -z "$(param socket)" ] || cri=$(cri_state)
    [ "$cri" != unreachable ] || [ "$ACTIVE" != active ] ||
        refuse cannot-judge "the CRI plugin cannot be asked: $(one_line <"$RUN/plugins.err")"
    printf 'active0=%s\npid0=%s\ncri0=%s\n' "$ACTIVE" "$PID" "$cri" >>"$RUN/params"
}

dumps() {
    for which in before after; do
        [ -s "$RUN/dump.$which" ] || continue
        base64 <"$RUN/dump.$which" | sed "s|^|@dump-$which |"
    done
    # A configuration may hold registry passwords: no copy stays that nobody needs.
    rm -f "$RUN/dump.before" "$RUN/dump.after" "$RUN/dump.before.err" "$RUN/handlers.now"
}

# $1 is empty, or names the runs that are put back, the newest first.
prepare() {
    make_run
    check_boot
    [ ! -f "$PAYLOADS/reads" ] || check_reads "$PAYLOADS/reads"
    say "step check the facts of the plan still hold"
    command -v systemd-run >/dev/null 2>&1 || refuse no-systemd "without systemd the automatic revert cannot be armed"
    : >"$RUN/table"
    if [ -z "$1" ]; then
        table_from_plan "$PAYLOADS/files"
    elif ! prepare_undo "$1"; then
        rm -rf "$RUN"
        return 0
    fi
    sort -r <"$RUN/table" >"$RUN/table.reverse"
    remember_health
    manifest >"$RUN/manifest.json" && readme >"$RUN/README.txt" || broken "the manifest could not be written"
    sync
    say "step backup what is needed to put it back lies in ${RUN#"$R"}"
    judge
    locked write_state prepared "" || broken "the state could not be written"
    dumps
}
