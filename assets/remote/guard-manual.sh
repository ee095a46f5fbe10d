# For a person at the host who has no gpuwizard: what a run touches, and the commands that put it back.
# Part of the guard (see guard.sh). No content of a file is told, only where the copies lie.

quoted() {
    case $1 in
        *[\\\"]*) printf '"%s"' "$(printf '%s' "$1" | sed 's|[\\"]|\\&|g')" ;;
        *) printf '"%s"' "$1" ;;
    esac
}

# One word of a shell command.
word() {
    case $1 in
        *"'"*) printf "'%s'" "$(printf '%s' "$1" | sed "s|'|'\\\\''|g")" ;;
        *) printf "'%s'" "$1" ;;
    esac
}

# The command that gives row $N back what it was.
restore_command() {
    if [ "$KIND" = undo ] && [ "$AFTER" != absent ]; then
        printf 'cat %s >%s' "$(word "$RUN/after/$N")" "$(word "$TARGET")"
    elif [ "$KIND" = undo ] || [ "$BEFORE" = absent ]; then
        printf 'rm -f %s' "$(word "$TARGET")"
    else
        printf 'cp -a %s %s' "$(word "$RUN/before/$N")" "$(word "$TARGET")"
    fi
}

# The command after which the runtime has read its files again.
restart_command() {
    case $P_verb in
        watched) printf '# nothing to restart: %s sees the files and restarts its runtime by itself' "$P_unit" ;;
        snap-restart) printf 'snap restart %s' "$(word "$P_snap")" ;;
        *) printf 'systemctl reset-failed %s; systemctl restart %s' "$(word "$P_unit")" "$(word "$P_unit")" ;;
    esac
}

manifest() {
    printf '{\n  "schema": "gpuwizard.manifest/1",\n  "run": "%s",\n' "$ID"
    printf '  "by": %s,\n  "unit": %s,\n' "$(quoted "$P_by")" "$(quoted "$P_unit")"
    printf '  "how_to_restore": "As root: run each restore command below, last one first, then restart the unit. '
    printf 'README.txt has the same in words. '
    printf 'The state file says whether the change was confirmed or already put back.",\n  "files": ['
    comma=
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
        printf '%s\n    {"path": %s, "resolved": %s,' "$comma" "$(quoted "$CONFIGURED")" "$(quoted "$TARGET")"
        printf ' "kind": "%s", "sha256_before": "%s", "sha256_after": "%s",' "$KIND" "$BEFORE" "$AFTER"
        manifest_before
        printf ' "restore": %s}' "$(quoted "$(restore_command)")"
        comma=,
    done <"$RUN/table"
    printf '\n  ]\n}\n'
}

manifest_before() {
    if [ -L "$R$CONFIGURED" ]; then
        printf ' "symlink_to": %s,' "$(quoted "$(readlink "$R$CONFIGURED")")"
    fi
    if [ "$KIND" = undo ]; then
        printf ' "before": "was not changed, but a restart made new handlers appear",'
    elif [ "$BEFORE" = absent ]; then
        printf ' "before": "did not exist",'
    else
        owner=$(stat -c '%a %u %g %C' "$TARGET" 2>/dev/null) || :
        printf ' "before": {"mode_owner_group_label": %s, "backup": %s},' \
            "$(quoted "${owner% \?}")" "$(quoted "$RUN/before/$N")"
    fi
}

# What row $N does, in words.
deed() {
    case $KIND/$BEFORE/$AFTER in
        undo/*) printf 'left as it is: %s (the restart alone brings the change about)' "$CONFIGURED" ;;
        */absent/*) printf 'writes %s, which did not exist' "$CONFIGURED" ;;
        */absent) printf 'removes %s' "$CONFIGURED" ;;
        *) printf 'changes %s' "$CONFIGURED" ;;
    esac
    [ "$TARGET" = "$R$CONFIGURED" ] || printf ' (which is %s)' "$TARGET"
}

readme() {
    printf 'gpuwizard run %s\nby %s\n\n' "$ID" "$P_by"
    [ -z "$P_restores" ] || printf 'It takes back: %s\n\n' "$P_restores"
    printf 'What it does on this host, in this order:\n\n'
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
        printf '  %s\n' "$(deed)"
    done <"$RUN/table"
    [ -z "$P_unit" ] || printf '  restarts the runtime: %s\n' "$P_unit"
    printf '\nHow it stands (confirmed: it is in force; reverted: it was put back already):\n\n'
    printf '  cat %s\n' "$(word "$RUN/state")"
    printf '\nWhile it is not confirmed, this puts all of it back, and checks that it worked:\n\n'
    printf '  sh %s undo %s\n' "$(word "$RUN/guard.sh")" "$ID"
    printf '\nOnce it is confirmed, as root, in this order, to put it back by hand. Look first whether somebody changed\n'
    printf 'a file since: sha256_after in manifest.json is what this run left there.\n\n'
    [ ! -f "$RUN/unmake" ] || while read -r made; do printf '  mkdir -p %s\n' "$(word "$made")"; done <"$RUN/unmake"
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
        printf '  %s\n' "$(restore_command)"
    done <"$RUN/table.reverse"
    printf '  [ ! -f %s ] || sort -r %s | while read -r folder; do rmdir "$folder"; done\n' \
        "$(word "$RUN/made")" "$(word "$RUN/made")"
    [ ! -f "$RUN/kept" ] || while IFS="$TAB" read -r _ kept_path; do
        printf '  rm -f %s\n' "$(word "$kept_path")"
    done <"$RUN/kept"
    [ -z "$P_unit" ] || printf '  %s\n' "$(restart_command)"
    printf '\nThe copies of before are in before/, those of after in after/. Nothing reads this folder: when nobody needs\n'
    printf 'it any more, delete it. A gpuwizard cannot take this run back then.\n'
}
