# The former file as a hard link beside its target: taking it back is one rename, which needs no space at all.
# Part of the guard (see guard.sh).
# "kept" in the run folder names the links, number TAB path, before the first of them is made; disarm removes them. Where
# no link can be made (another kind of file system, immutable) the copy in the run folder is what a revert has.

# Name the link of row $N. It lies where temporary files do, under a name that no runtime reads: containerd, K3s and k0s
# take *.toml from their folders, Docker one file, and CRI-O every file of a folder that is not used here.
name_kept() {
    [ "$KIND" = write ] && [ "$BEFORE" != absent ] || return 0
    scratch_folder "${TARGET%/*}"
    # A folder of drop-ins that is a mount of its own has no other place on its file system.
    case $SCRATCH in *.d) return 0 ;; esac
    ! imports_everything || return 0
    printf '%s\t%s\n' "$N" "$SCRATCH/.gpuwizard.$ID.$N" >>"$RUN/kept" || broken "the run folder could not be written"
}

# Does the configuration import by a pattern that is not *.toml? Go's patterns take names that begin with a dot as well.
imports_everything() {
    [ -n "$P_config" ] && [ -r "$R$P_config" ] || return 1
    sed "s/\*\.toml[\"']//g" "$R$P_config" | grep -q "[\"']/[^\"']*[*?][^/\"']*[\"']"
}

# Set KEPT to the name of the link of row $N; empty when it has none.
find_kept() {
    KEPT=
    [ -f "$RUN/kept" ] || return 0
    while IFS="$TAB" read -r kept_number kept_path; do
        [ "$kept_number" != "$N" ] || KEPT=$kept_path
    done <"$RUN/kept"
}

# Keep the file of row $N, which is about to be replaced or removed.
keep_former() {
    find_kept
    [ -n "$KEPT" ] || return 0
    rm -f "$KEPT"
    ln "$TARGET" "$KEPT" 2>/dev/null || :
}

# Give row $N its former inode back, with all that is its own; false unless that has the sha256 $1.
take_kept() {
    find_kept
    [ -n "$KEPT" ] && [ -f "$KEPT" ] && [ ! -L "$KEPT" ] || return 1
    look_at_sha "$KEPT"
    [ "$SHA" = "$1" ] && mv -f "$KEPT" "$TARGET" 2>/dev/null || return 1
    flush "${KEPT%/*}" "${TARGET%/*}"
}

# Remove what this run has beside its files: links, and what a put that died has left.
drop_kept() {
    [ ! -f "$RUN/table" ] || while IFS="$TAB" read -r _ _ _ _ _ _ kept_path _; do
        scratch_folder "${kept_path%/*}"
        [ ! -e "$SCRATCH/.gpuwizard.$ID.new" ] || rm -f "$SCRATCH/.gpuwizard.$ID.new"
    done <"$RUN/table"
    [ -f "$RUN/kept" ] || return 0
    while IFS="$TAB" read -r _ kept_path; do
        [ ! -e "$kept_path" ] || rm -f "$kept_path"
    done <"$RUN/kept"
}
