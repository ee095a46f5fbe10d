# Files of a run: hashing, resolving, atomic replacement, restoring, and the table of what is touched.
# Part of the guard (see guard.sh).
# Table columns, tab separated: number, kind (write, undo), sha256 before, sha256 after ("absent": no such file),
# mode of a new file, whose attributes the new bytes get (keep: those of the present file; own: those of the copy in
# the run folder), resolved path, path as configured.

# Set SHA to the sha256 of file $1: "absent" when there is none, "special" when it is no file.
look_at_sha() {
    if [ -f "$1" ]; then
        SHA=$(sha256sum 2>/dev/null <"$1") || :
        SHA=${SHA%% *}
        SHA=${SHA:-unreadable}
    elif [ -e "$1" ]; then
        SHA=special
    else
        SHA=absent
    fi
}

# Set RESOLVED to path $1 without symlinks; its last parts need not exist.
resolve() {
    path=$1 rest=
    while [ ! -e "$path" ] && [ ! -L "$path" ]; do
        rest="/${path##*/}$rest"
        path=${path%/*}
        [ -n "$path" ] || path=/
    done
    real=$(readlink -f "$path") || return 1
    [ "$real" != / ] || real=
    if [ -n "$R" ]; then
        root=$(readlink -f "$R") || return 1
        case "$real/" in "$root"/*) ;; *) return 1 ;; esac
    fi
    RESOLVED=$real$rest
}

# Set EXISTING to the nearest folder of path $1 that is there.
existing_folder() {
    EXISTING=${1%/*}
    while [ -n "$EXISTING" ] && [ ! -d "$EXISTING" ]; do
        EXISTING=${EXISTING%/*}
    done
    EXISTING=${EXISTING:-/}
}

# Is something mounted at path $1? Also a folder of the same file system: nothing can be renamed across it.
is_mounted() {
    grep -q -F -e " $1 " "$R/proc/self/mountinfo" 2>/dev/null
}

# Set SCRATCH to where a temporary file for a file in folder $1 may lie: same file system, and read by no runtime.
# Runtimes import whole folders named *.d; our temporary names never end in .toml either.
scratch_folder() {
    SCRATCH=$1
    case $1 in
        *.d) is_mounted "$1" || SCRATCH=${1%/*} ;;
    esac
}

# Make the missing folders of a path, each one noted first, so that a revert can remove them.
make_folders() {
    [ ! -d "$1" ] || return 0
    make_folders "${1%/*}" || return 1
    printf '%s\n' "$1" >>"$RUN/made" && flush "$RUN/made" || return 1
    mkdir -m 0755 "$1" || return 1
    if command -v restorecon >/dev/null 2>&1; then restorecon "$1" >/dev/null 2>&1 || :; fi
}

# Remove the folders named in file $1, the last one first, as far as they are empty.
drop_folders() {
    [ -f "$1" ] || return 0
    sed -n '1!G;h;$p' "$1" | while read -r made; do
        rmdir "$made" 2>/dev/null || :
    done
}

# put CONTENT ATTRIBUTES TARGET MODE [XATTRS]: replace TARGET in one step by the bytes of CONTENT.
# ATTRIBUTES is the file whose mode, owner, times, attributes and label the new file gets, or "-" for a new file of
# mode MODE. XATTRS is a dump made by getfattr.
put() {
    put_folder=${3%/*}
    make_folders "$put_folder" || return 1
    scratch_folder "$put_folder"
    # Nobody but root writes there. The name is known to disarm, which clears away what a crash has left.
    put_temp=$SCRATCH/.gpuwizard.$ID.new
    rm -f "$put_temp" || return 1
    if put_into "$@" && flush "$put_temp" && mv -f "$put_temp" "$3"; then
        [ "$2" != - ] || label_new "$3"
        flush "$put_folder"
        return 0
    fi
    rm -f "$put_temp"
    return 1
}

put_into() {
    if [ "$2" = - ]; then
        cat "$1" >"$put_temp" && chmod "$4" "$put_temp" || return 1
        if [ -d "$R/sys/fs/selinux" ]; then chcon --reference="$put_folder" "$put_temp" 2>/dev/null || :; fi
        return 0
    fi
    cp -a "$2" "$put_temp" || return 1
    [ "$1" = "$2" ] || cat "$1" >"$put_temp" || return 1
    if [ -n "${5-}" ] && [ -s "$5" ] && command -v setfattr >/dev/null 2>&1; then
        sed "1s|.*|# file: $put_temp|" "$5" >"$RUN/xattrs.now"
        (cd "$RUN" && setfattr -h --restore=xattrs.now) 2>/dev/null || :
    fi
    cmp -s "$1" "$put_temp"
}

label_new() {
    if command -v restorecon >/dev/null 2>&1; then restorecon "$1" >/dev/null 2>&1 || :; fi
}

remove() {
    rm -f "$1" && flush "${1%/*}"
}

# Write row $N of the table; the caller holds the state lock. WHY says what went wrong.
replace_row() {
    still_applying || { WHY="the run is $STATE, nothing more is written"; return 9; }
    look_at_sha "$TARGET"
    if [ "$SHA" != "$BEFORE" ]; then
        WHY="$CONFIGURED was changed by somebody else after it was backed up"
        return 1
    fi
    keep_former
    if [ "$AFTER" = absent ]; then
        attempt remove "$TARGET"
    elif [ "$META" = own ]; then
        attempt put "$RUN/after/$N" "$RUN/after/$N" "$TARGET" "$MODE" "$RUN/xattrs/after-$N"
    elif [ "$BEFORE" = absent ]; then
        attempt put "$RUN/after/$N" - "$TARGET" "$MODE"
    else
        attempt put "$RUN/after/$N" "$TARGET" "$TARGET" "$MODE"
    fi
    look_at_sha "$TARGET"
    if [ "$SHA" != "$AFTER" ]; then
        explain
        WHY="$CONFIGURED could not be written: $CAUSE"
        return 1
    fi
}

# Give row $N back what it was: only when it has the bytes that we wrote. Otherwise it is left and reported.
restore_row() {
    look_at_sha "$TARGET"
    if [ "$KIND" = undo ]; then
        [ -e "$RUN/activated" ] || [ -n "$AT_BOOT" ] || return 0
        ours=$BEFORE wanted=$AFTER source="$RUN/after/$N" attributes=$TARGET xattrs=
        [ "$BEFORE" != absent ] || attributes=-
    else
        ours=$AFTER wanted=$BEFORE source="$RUN/before/$N" attributes="$RUN/before/$N" xattrs="$RUN/xattrs/before-$N"
    fi
    [ "$SHA" != "$wanted" ] || return 0
    if [ "$SHA" != "$ours" ]; then
        FOREIGN="$FOREIGN $CONFIGURED"
        note "info foreign change: $CONFIGURED has bytes that are neither the old nor ours; it is left alone"
        return 0
    fi
    note "step revert $CONFIGURED"
    if [ "$wanted" = absent ]; then
        attempt remove "$TARGET"
    elif [ "$KIND" = write ] && take_kept "$wanted"; then
        TOLD=
    else
        attempt put "$source" "$attributes" "$TARGET" "$MODE" "$xattrs"
        # Somebody mounted something on the very file meanwhile: nothing can take its place, only its bytes can change.
        ! is_mounted "$TARGET" || attempt cp "$source" "$TARGET"
    fi
    look_at_sha "$TARGET"
    [ "$SHA" = "$wanted" ]
}
