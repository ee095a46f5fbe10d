# Before anything changes: do the facts still hold, can it be done safely, back up, stage, judge.
# Part of the guard (see guard.sh).

# Payload "reads": sha256 TAB path of every file that the plan read.
check_reads() {
    stale=
    hashes_of "$1"
    while IFS="$TAB" read -r wanted path; do
        # A name that sha256sum would have to escape is looked at alone.
        case $path in
            *\\*) look_at_sha "$R$path" ;;
            *) hash_in "$R$path" ;;
        esac
        [ "$SHA" != "$wanted" ] || continue
        changed=$(stat -c '%y' "$R$path" 2>/dev/null || echo "it is gone")
        say "stale $path was $(printf %.12s "$wanted"), is $(printf %.12s "$SHA") ($changed)"
        stale="$stale $path"
    done <"$1"
    [ -z "$stale" ] || refuse stale "changed since the plan was made:$stale"
}

# Set HASHES to what one sha256sum says of all files of list $1 that are there.
hashes_of() {
    set -- "$1" --
    while IFS="$TAB" read -r _ path; do
        [ ! -f "$R$path" ] || set -- "$@" "$R$path"
    done <"$1"
    shift
    HASHES=
    [ $# -lt 2 ] || HASHES=$(sha256sum "$@" 2>/dev/null) || :
}

# Set SHA as look_at_sha does, from HASHES.
hash_in() {
    if [ ! -f "$1" ]; then
        look_at_sha "$1"
        return
    fi
    SHA="$NL$HASHES$NL"
    case $SHA in
        *"  $1$NL"*)
            SHA=${SHA%%"  $1$NL"*}
            SHA=${SHA##*"$NL"}
            ;;
        *) SHA=unreadable ;;
    esac
}

check_boot() {
    look_at_boot
    if [ -n "$P_boot" ] && [ "$P_boot" != "$BOOT" ]; then
        refuse stale "the host was restarted since the plan was made"
    fi
}

# Can path $1 (resolved) be replaced atomically, and by root alone? Sets SHA to what it holds.
check_target() {
    existing_folder "$1"
    if ! [ -w "$EXISTING" ] && ! attempt mkdir "$EXISTING/.gpuwizard.$ID.try"; then
        TARGET=$EXISTING/${1##*/}
        explain
        refuse unsafe-path "${EXISTING#"$R"} cannot be written: $CAUSE; to mend it: $REMEDY"
    fi
    rmdir "$EXISTING/.gpuwizard.$ID.try" 2>/dev/null || :
    look_at_sha "$1"
    [ "$SHA" != special ] || refuse unsafe-path "$1 is no regular file"
    if [ -f "$1" ]; then
        [ "$(stat -c %h "$1" 2>/dev/null || echo 1)" = 1 ] || refuse unsafe-path "$1 has hard links; replacing it would cut them"
        ! is_mounted "$1" || refuse unsafe-path "$1 is a mount point and cannot be replaced"
        if command -v lsattr >/dev/null 2>&1; then
            attributes=$(lsattr -d "$1" 2>/dev/null) || :
            case ${attributes%% *} in *i*) refuse unsafe-path "$1 is immutable (chattr +i)" ;; esac
        fi
    fi
    # Targets mostly share their folders.
    case $CHECKED in *"$NL$EXISTING$NL"*) return 0 ;; esac
    CHECKED="$CHECKED$EXISTING$NL"
    check_folders "$EXISTING"
    check_room "$EXISTING"
}

# Nobody but root may write to folder $1 or to one above it.
check_folders() {
    part=$1
    set --
    while [ -n "$part" ] && [ "$part" != "$R" ]; do
        set -- "$@" "$part"
        part=${part%/*}
    done
    [ $# -gt 0 ] || return 0
    open=$(ls -ld -- "$@") || broken "$1 cannot be looked at"
    case "$NL$open" in
        *"$NL"d???????w[!tT]*)
            open=${open##*d???????w[!tT]}
            open=${open%%"$NL"*}
            refuse unsafe-path "/${open#*/} can be written by every user"
            ;;
    esac
}

# Are 10 MB free in each of these folders?
check_room() {
    for folder; do
        room=$(df -P -k "$folder" 2>/dev/null) || continue
        # shellcheck disable=SC2086  # the fields of its second line
        set -- ${room#*"$NL"}
        if [ $# -gt 3 ] && [ "$4" -lt 10240 ]; then
            refuse no-room "less than 10 MB are free in $folder"
        fi
    done
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
    for folder in "$HOME_FOLDER" "$HOME_FOLDER/runs" "$RUN"; do
        [ ! -L "$folder" ] || refuse unsafe-path "$folder is a symlink"
    done
    mkdir -p "$RUN/before" "$RUN/after" "$RUN/xattrs" || broken "$RUN could not be made"
    chmod 0700 "$HOME_FOLDER" "$HOME_FOLDER/runs" "$RUN" || broken "$HOME_FOLDER is not ours"
    sweep
    check_room "$RUN"
    hold_space || broken "$RUN could not be written"
    cp "$PAYLOADS/guard.sh" "$PAYLOADS/params" "$PAYLOADS/plugins.pl" "$RUN" || broken "$RUN could not be written"
    printf 'seq=%s\n' "$(next_number)" >>"$RUN/params"
}

# Payload "files": kind TAB before TAB after TAB mode TAB number TAB path; the bytes are in after-NUMBER.
table_from_plan() {
    while IFS="$TAB" read -r KIND BEFORE AFTER MODE N CONFIGURED; do
        resolve "$R$CONFIGURED" || refuse unsafe-path "$CONFIGURED cannot be resolved"
        TARGET=$RESOLVED
        check_target "$TARGET"
        [ "$SHA" = "$BEFORE" ] || refuse stale "$CONFIGURED was changed since the plan was made"
        if [ "$AFTER" != absent ]; then
            copied "$AFTER" "$PAYLOADS/after-$N" "$RUN/after/$N" || broken "$CONFIGURED could not be staged"
        fi
        add_row keep
    done <"$1"
}

# Copy file $2 to $3 with all that is its own; false unless the copy has the sha256 $1.
copied() {
    cp -a "$2" "$3" || return 1
    look_at_sha "$3"
    [ "$SHA" = "$1" ]
}

# Back up row $N and write it to the table. An undo row changes nothing until the revert.
add_row() {
    META=$1
    [ -n "$MODE" ] && [ -n "$TARGET" ] && [ -n "$CONFIGURED" ] || broken "a row of the table is damaged"
    if [ "$BEFORE" != absent ]; then
        copied "$BEFORE" "$TARGET" "$RUN/before/$N" || broken "$CONFIGURED could not be backed up"
        if command -v getfattr >/dev/null 2>&1; then
            getfattr -h -d -m - -e hex --absolute-names "$TARGET" >"$RUN/xattrs/before-$N" 2>/dev/null || :
        fi
    fi
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$N" "$KIND" "$BEFORE" "$AFTER" "$MODE" "$META" "$TARGET" "$CONFIGURED" >>"$RUN/table"
    name_kept
}

# What the unit and its CRI are like now: a revert need not make them better than that. Sets PID for the judgement.
remember_health() {
    PID=0
    if [ -z "$P_unit" ]; then
        return 0
    fi
    unit_state "$P_unit"
    CRI=-
    [ -z "$P_socket" ] || look_at_cri
    [ "$CRI" != unreachable ] || [ "$ACTIVE" != active ] ||
        refuse cannot-judge "the CRI plugin cannot be asked: $(one_line <"$RUN/plugins.err")"
    printf 'active0=%s\npid0=%s\ncri0=%s\n' "$ACTIVE" "$PID" "$CRI" >>"$RUN/params"
}

dumps() {
    for which in before after; do
        [ -s "$RUN/dump.$which" ] || continue
        base64 <"$RUN/dump.$which" | sed "s|^|@dump-$which |"
    done
    # A configuration may hold registry passwords: no copy stays that nobody needs.
    rm -f "$RUN/dump.before" "$RUN/dump.after" "$RUN/dump.before.err"
}

# $1 is empty, or names the runs that are put back, the newest first.
prepare() {
    make_run
    load_params
    check_boot
    [ ! -f "$PAYLOADS/reads" ] || check_reads "$PAYLOADS/reads"
    say "step check the facts of the plan still hold"
    command -v systemd-run >/dev/null 2>&1 || refuse no-systemd "without systemd the automatic revert cannot be armed"
    : >"$RUN/table"
    CHECKED=$NL
    if [ -z "$1" ]; then
        table_from_plan "$PAYLOADS/files"
    elif ! prepare_undo "$1"; then
        rm -rf "$RUN"
        return 0
    fi
    sort -r <"$RUN/table" >"$RUN/table.reverse"
    remember_health
    manifest >"$RUN/manifest.json" && readme >"$RUN/README.txt" || broken "the manifest could not be written"
    # What is to be put back, and how, must be there after a crash; then the folders' own entries.
    set -- "$RUN/before" "$RUN/after" "$RUN/xattrs" "$RUN" "$HOME_FOLDER/runs" "$HOME_FOLDER"
    for kept in "$RUN"/*/* "$RUN"/*; do
        [ ! -f "$kept" ] || set -- "$kept" "$@"
    done
    flush "$@"
    say "step backup what is needed to put it back lies in ${RUN#"$R"}"
    judge
    locked write_state prepared "" || broken "the state could not be written"
    dumps
}
