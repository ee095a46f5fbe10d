# Why a file could not be written or put back, by the words of the tool that tried, and what mends it.
# Part of the guard (see guard.sh).

# Run a command; TOLD is the first line of its complaint.
attempt() {
    TOLD=$("$@" 2>&1 </dev/null)
    set -- "$?"
    TOLD=$(printf '%s\n' "${TOLD%%"$NL"*}" | one_line)
    return "$1"
}

# Set CAUSE and REMEDY of $TOLD for file $TARGET.
explain() {
    place=${TARGET%/*}
    place=${place#"$R"}
    case $TOLD in
        *'No space left'* | *'uota exceeded'*)
            CAUSE="no space is left on the file system of $place" REMEDY="free some space there (df -h $place, df -i $place)"
            ;;
        *'Read-only file system'*)
            CAUSE="the file system of $place is read-only"
            REMEDY="make it writable (dmesg says whether errors made it so; mount -o remount,rw)"
            ;;
        *'peration not permitted'* | *'ermission denied'*)
            look_for_immutable
            CAUSE="${IMMUTABLE:-it or its folder} is immutable" REMEDY="chattr -i -a ${IMMUTABLE:-${TARGET#"$R"} $place}"
            [ -n "$IMMUTABLE" ] || CAUSE="it is not permitted even to root: perhaps $CAUSE (lsattr -d)"
            ;;
        *'resource busy'*)
            CAUSE="something is mounted on it" REMEDY="umount ${TARGET#"$R"}"
            ;;
        '') CAUSE="it has other bytes all the same" REMEDY="find out who else writes it" ;;
        *) CAUSE=$TOLD REMEDY="mend what it says" ;;
    esac
}

# Set IMMUTABLE to those of $TARGET and its folder to which nothing can be done; empty when that cannot be seen.
look_for_immutable() {
    IMMUTABLE=
    for one in "$TARGET" "${TARGET%/*}"; do
        attributes=$(lsattr -d "$one" 2>/dev/null) || continue
        case ${attributes%% *} in *[ia]*) IMMUTABLE="$IMMUTABLE${IMMUTABLE:+ }${one#"$R"}" ;; esac
    done
}

# The reason of a failed revert: why, what mends it, and how to go on.
how_to_go_on() {
    printf '%.300s; to mend it: %s; then ' "$WHY" "$REMEDY"
    # A run that takes others back is not rolled back itself.
    [ -n "$P_restores" ] || printf 'gpuwizard rollback %s tries it again, and so does, ' "$ID"
    printf 'as root on the host: sh %s undo %s; ' "${RUN#"$R"}/guard.sh" "$ID"
    printf 'by hand: %s' "${RUN#"$R"}/README.txt"
}
