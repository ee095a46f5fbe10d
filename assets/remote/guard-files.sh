# Files of a run: hashing, resolving, atomic replacement, restoring, and the table of what is touched.
# Part of the guard (see guard.sh).
# Table columns, tab separated: number, kind (write, undo), sha256 before, sha256 after ("absent": no such file),
# mode of a new file, whose attributes the new bytes get (keep: those of the present file; own: those of the copy in
# the run folder), resolved path, path as configured.

sha_of() {
    if [ -f "$1" ]; then
        set -- "$(sha256sum <"$1" 2>/dev/null)"
        echo "${1%% *}" | sed 's|^$|unreadable|'
    elif [ -e "$1" ]; then
        echo special
    else
        echo absent
    fi
}

# Resolve symlinks of a path whose last parts need not exist.
resolve() (
    path=$1 rest=
    while [ ! -e "$path" ] && [ ! -L "$path" ]; do
        rest="/${path##*/}$rest"
        path=${path%/*}
        [ -n "$path" ] || path=/
    done
    real=$(readlink -f "$path") || exit 1
    [ "$real" != / ] || real=
    if [ -n "$R" ]; then
        root=$(readlink -f "$R") || exit 1
        case "$real/" in "$root"/*) ;; *) exit 1 ;; esac
    fi
    printf '%s\n' "$real$rest"
)

existing_folder() (
    path=${1%/*}
    while [ -n "$path" ] && [ ! -d "$path" ]; do
        path=${path%/*}
    done
    printf '%s\n' "${path:-/}"
)

mount_of() {
    df -P "$1" 2>/dev/null | awk 'NR == 2 { print $NF }'
}

# Where a temporary file for a file in folder $1 may lie: same file system, and read by no runtime.
# Runtimes import whole folders named *.d; our temporary names never end in .toml either.
scratch_folder() (
    folder=$1
    case $folder in
        *.d)
            above=${folder%/*}
            if [ -n "$above" ] && [ "$(mount_of "$above")" = "$(mount_of "$folder")" ]; then
                folder=$above
            fi
            ;;
    esac
    printf '%s\n' "$folder"
)

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
    put_temp=$(mktemp "$(scratch_folder "$put_folder")/.gpuwizard.XXXXXX") || return 1
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
    have=$(sha_of "$TARGET")
    if [ "$have" != "$BEFORE" ]; then
        WHY="$CONFIGURED was changed by somebody else after it was backed up"
        return 1
    fi
    if [ "$AFTER" = absent ]; then
        remove "$TARGET"
    elif [ "$META" = own ]; then
        put "$RUN/after/$N" "$RUN/after/$N" "$TARGET" "$MODE" "$RUN/xattrs/after-$N"
    elif [ "$BEFORE" = absent ]; then
        put "$RUN/after/$N" - "$TARGET" "$MODE"
    else
        put "$RUN/after/$N" "$TARGET" "$TARGET" "$MODE"
    fi
    if [ "$(sha_of "$TARGET")" != "$AFTER" ]; then
        WHY="$CONFIGURED could not be written"
        return 1
    fi
}

# Give row $N back what it was: only when it has the bytes that we wrote. Otherwise it is left and reported.
restore_row() {
    have=$(sha_of "$TARGET")
    if [ "$KIND" = undo ]; then
        [ -e "$RUN/activated" ] || [ -n "$AT_BOOT" ] || return 0
        ours=$BEFORE wanted=$AFTER source="$RUN/after/$N" attributes=$TARGET xattrs=
        [ "$BEFORE" != absent ] || attributes=-
    else
        ours=$AFTER wanted=$BEFORE source="$RUN/before/$N" attributes="$RUN/before/$N" xattrs="$RUN/xattrs/before-$N"
    fi
    [ "$have" != "$wanted" ] || return 0
    if [ "$have" != "$ours" ]; then
        FOREIGN="$FOREIGN $CONFIGURED"
        note "info foreign change: $CONFIGURED has bytes that are neither the old nor ours; it is left alone"
        return 0
    fi
    note "step revert $CONFIGURED"
    if [ "$wanted" = absent ]; then
        remove "$TARGET"
    else
        put "$source" "$attributes" "$TARGET" "$MODE" "$xattrs"
    fi
    [ "$(sha_of "$TARGET")" = "$wanted" ]
}
