# Taking runs back: which of them still stand on this host, and what gives their files back.
# Part of the guard (see guard.sh).

# The value of parameter $2 of run $1.
value_of() {
    sed -n "s|^$2=||p" "$HOME_FOLDER/runs/$1/params" 2>/dev/null | head -n 1
}

# The word in the state file of run $1.
state_of() {
    [ -r "$HOME_FOLDER/runs/$1/state" ] || return 0
    cut -d ' ' -f 1 "$HOME_FOLDER/runs/$1/state" | head -n 1
}

# Runs are counted, because the clock of a host may jump. The caller holds the run lock.
next_number() {
    for folder in "$HOME_FOLDER"/runs/*/; do
        [ "${folder%/}" = "$RUN" ] || value_of "$(basename "$folder")" seq
    done | sort -n | tail -n 1 | sed 's|^$|0|' | {
        read -r last || last=0
        echo "$((last + 1))"
    }
}

# The confirmed run that took run $1 back; fails when there is none.
undone_by() (
    for folder in "$HOME_FOLDER"/runs/*/; do
        one=$(basename "$folder")
        case " $(value_of "$one" restores) " in
            *" $1 "*)
                [ "$(state_of "$one")" = confirmed ] || continue
                printf '%s\n' "$one"
                exit 0
                ;;
        esac
    done
    exit 1
)

# Does the change of run $1 still stand? One that took another run back does only where it had to write something of
# its own (the edit of a run that had only restarted). $UNDONE are the runs that confirmed ones took back.
stands() (
    case $(state_of "$1") in confirmed | revert-failed) ;; *) exit 1 ;; esac
    [ -r "$HOME_FOLDER/runs/$1/table" ] || exit 1
    case " $UNDONE " in *" $1 "*) exit 1 ;; esac
    back=$(value_of "$1" restores)
    [ -n "$back" ] || exit 0
    for old in $back; do
        ! grep -q "^[0-9]*${TAB}undo${TAB}" "$HOME_FOLDER/runs/$old/table" 2>/dev/null || exit 0
    done
    exit 1
)

# The runs whose change stands, the newest first. Those of a version that did not count go by their time.
standing_runs() {
    UNDONE=$(for folder in "$HOME_FOLDER"/runs/*/; do
        one=$(basename "$folder")
        back=$(value_of "$one" restores)
        [ -z "$back" ] || [ "$(state_of "$one")" != confirmed ] || printf '%s ' "$back"
    done)
    for folder in "$HOME_FOLDER"/runs/*/; do
        one=$(basename "$folder")
        stands "$one" || continue
        number=$(value_of "$one" seq)
        read -r ended since why <"$folder/state"
        printf '%s %s %s\n' "${number:-0}" "$since" "$one"
    done | sort -k 1,1nr -k 2,2nr -k 3,3r | cut -d ' ' -f 3
}

# Run $1 in words: who made it, from where, when.
who() {
    printf '%s (%s)' "$1" "$(value_of "$1" by | sed 's|, run [^,]*,|,|' | cut -c 1-300)"
}

# What run $1 left in file $2: a hash, or nothing when it did not touch it.
left_by() {
    while IFS="$TAB" read -r n kind before after mode meta target configured; do
        [ "$target" = "$2" ] || continue
        if [ "$kind" = write ]; then printf '%s\n' "$after"; else printf '%s\n' "$before"; fi
    done <"$HOME_FOLDER/runs/$1/table" | tail -n 1
}

# $TARGET does not have the bytes ($AFTER) that run $1 left there: refuse, and say who changed it.
refuse_changed() {
    later='' first='' found=
    for other in $(standing_runs); do
        [ "$other" != "$1" ] || break
        case " $TAKEN " in *" $other "*) continue ;; esac
        left=$(left_by "$other" "$TARGET")
        [ -n "$left" ] || continue
        later="$later${later:+; }$(who "$other")"
        [ "$left" != "$AFTER" ] || [ -n "$found" ] || found=$other
    done
    [ -z "$found" ] || refuse later "$found $CONFIGURED was changed again by a later run: $later"
    refuse foreign "$CONFIGURED was changed by somebody else since run $(who "$1")${later:+ and later ones of ours: $later}: it is left alone"
}

# What $TARGET becomes when the runs of table.source are taken back, one after the other: $AFTER, whose bytes are $COPY.
unwind() {
    look_at_sha "$TARGET"
    BEFORE=$SHA AFTER=$SHA COPY='' XATTRS='' META=own KIND=write
    while IFS="$TAB" read -r id old kind was made mode meta target configured; do
        [ "$target" = "$TARGET" ] || continue
        MODE=$mode CONFIGURED=$configured
        copy="$HOME_FOLDER/runs/$id/before/$old" xattrs="$HOME_FOLDER/runs/$id/xattrs/before-$old" meta=own
        if [ "$kind" = undo ]; then
            swap=$was was=$made made=$swap copy="$HOME_FOLDER/runs/$id/after/$old" xattrs='' meta=keep
        fi
        if [ "$AFTER" = "$made" ]; then
            AFTER=$was COPY=$copy XATTRS=$xattrs META=$meta
        elif [ "$AFTER" != "$was" ]; then
            refuse_changed "$id"
        fi
    done <"$RUN/table.source"
}

# The rows of the runs $TAKEN, the newest run first, each backwards. Before an uninstall the edits that only stood by for
# a revert do not count: it leaves no file of ours.
rows_of_runs() {
    for id in $TAKEN; do
        sort -r <"$HOME_FOLDER/runs/$id/table" | sed "s|^|$id$TAB|"
    done | if [ -f "$PAYLOADS/aims" ]; then grep -v "^[^$TAB]*$TAB[0-9]*${TAB}undo$TAB"; else cat; fi
    return 0
}

# The folders that the runs made, in the order in which they did.
folders_of_runs() {
    : >"$RUN/unmake"
    for id in $TAKEN; do
        [ -f "$HOME_FOLDER/runs/$id/made" ] || continue
        cat "$HOME_FOLDER/runs/$id/made" "$RUN/unmake" >"$RUN/unmake.new" && mv -f "$RUN/unmake.new" "$RUN/unmake" ||
            broken "the folders of the runs could not be read"
    done
}

# Take back the runs named in $1, the newest first: what they made must still be there, what was before comes back. A
# file's place is that of its oldest row, so that what an older run added first goes last.
table_from_runs() {
    TAKEN=$1
    rows_of_runs >"$RUN/table.source" || broken "the tables of the runs could not be read"
    folders_of_runs
    awk -F "$TAB" '{ last[$8] = NR } END { for (path in last) printf "%d\t%s\n", last[path], path }' \
        "$RUN/table.source" | sort -n | cut -f 2- >"$RUN/targets"
    count=0
    while IFS= read -r TARGET; do
        unwind
        if [ "$AFTER" = "$BEFORE" ]; then
            say "info $CONFIGURED is already what it was"
            continue
        fi
        count=$((count + 1))
        N=$(printf '%03d' "$count")
        check_target "$TARGET"
        if [ "$AFTER" != absent ]; then
            copied "$AFTER" "$COPY" "$RUN/after/$N" || broken "the backup of $CONFIGURED is damaged"
            [ ! -f "$XATTRS" ] || cp "$XATTRS" "$RUN/xattrs/after-$N"
        fi
        add_row "$META"
    done <"$RUN/targets"
}

# Payload "aims": before TAB after TAB path of every file, as the plan that was reviewed says.
check_aims() {
    sort <"$1" >"$RUN/aims"
    cut -f 3,4,8 "$RUN/table" | sort | cmp -s - "$RUN/aims" ||
        refuse stale "its files or its runs were changed since the plan was made"
    rm -f "$RUN/aims"
}

# $1 names the runs to take back. Fails when there is nothing to do, and has said why.
prepare_undo() {
    newest=${1%% *}
    for id in $1; do
        [ -r "$HOME_FOLDER/runs/$id/table" ] || refuse unknown-run "this host has no record of run $id"
    done
    printf 'restores=%s\n' "$1" >>"$RUN/params"
    for key in unit socket binary config rendered kind verb snap; do
        sed -n "s|^$key=|$key=|p" "$HOME_FOLDER/runs/$newest/params" | head -n 1 >>"$RUN/params"
    done
    load_params
    if back=$(undone_by "$newest"); then
        say "nothing it was put back already by run $(who "$back")"
        return 1
    fi
    table_from_runs "$1"
    if [ -s "$RUN/table" ]; then
        [ ! -f "$PAYLOADS/aims" ] || check_aims "$PAYLOADS/aims"
    elif [ -s "$RUN/table.source" ]; then
        say "nothing every file is already as it was before"
        return 1
    else
        say "nothing the run changed no file on this host, it only restarted $P_unit"
        return 1
    fi
}

# What the runs on this host were, for a plan that takes them back: `open` runs that are not over, then each that stands,
# the newest first, with its parameters and rows; what its files are now; and the bytes of all of them.
tell_history() {
    seen=' '
    for folder in "$HOME_FOLDER"/runs/*/; do
        one=$(basename "$folder")
        case $(state_of "$one") in
            armed | applying | healthy | reverting)
                say "open $one $(state_of "$one") $(($(cat "$folder/armed" 2>/dev/null || date +%s) - $(date +%s)))"
                ;;
        esac
    done
    for one in $(standing_runs); do
        say "run $one $(state_of "$one")"
        sed 's|^|@param |' "$HOME_FOLDER/runs/$one/params"
        while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
            say "row $N$TAB$KIND$TAB$BEFORE$TAB$AFTER$TAB$MODE$TAB$TARGET$TAB$CONFIGURED"
            look_at_sha "$TARGET"
            say "have $SHA$TAB$TARGET"
            bytes_of "$TARGET"
            bytes_of "$HOME_FOLDER/runs/$one/before/$N"
            bytes_of "$HOME_FOLDER/runs/$one/after/$N"
        done <"$HOME_FOLDER/runs/$one/table"
    done
    say "end"
}

# The bytes of file $1, once.
bytes_of() {
    [ -f "$1" ] || return 0
    look_at_sha "$1"
    case $seen in *" $SHA "*) return 0 ;; esac
    seen="$seen$SHA "
    base64 <"$1" | sed "s|^|@bytes $SHA |"
}
