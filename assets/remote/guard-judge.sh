# The host's own runtime judges the staged bytes under their real paths, in a private mount namespace.
# Part of the guard (see guard.sh).

# The folders that are shadowed by copies: for each written path its nearest existing folder, without those that lie
# in another one of them.
shadow_folders() {
    : >"$RUN/judge/folders.all"
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
        [ "$KIND" = write ] || continue
        existing_folder "$TARGET" >>"$RUN/judge/folders.all"
    done <"$RUN/table"
    sort -u <"$RUN/judge/folders.all" | awk '
        { name[NR] = $0 }
        END {
            for (i = 1; i <= NR; i++) {
                inside = 0
                for (j = 1; j <= NR; j++) if (i != j && index(name[i] "/", name[j] "/") == 1) inside = 1
                if (!inside) print name[i]
            }
        }' >"$RUN/judge/folders"
    ! grep -q -x -F -e "${R:-/}" "$RUN/judge/folders"
}

copy_folders() {
    number=0
    while read -r folder; do
        number=$((number + 1))
        cp -a "$folder" "$RUN/judge/copy.$number" || return 1
    done <"$RUN/judge/folders"
}

# Put row $N into the copies.
stage_row() {
    number=0
    while read -r folder; do
        number=$((number + 1))
        case $TARGET in
            "$folder"/*)
                staged="$RUN/judge/copy.$number${TARGET#"$folder"}"
                rm -f "$staged"
                [ "$AFTER" != absent ] || return 0
                mkdir -p "${staged%/*}" && cat "$RUN/after/$N" >"$staged"
                return
                ;;
        esac
    done <"$RUN/judge/folders"
    return 1
}

# Runs inside the new mount namespace: $1 is the namespace outside. Nothing is mounted unless it is another one.
judge_inside() {
    if [ -z "$R" ] && [ "$(readlink "$R/proc/self/ns/mnt")" = "$1" ]; then
        echo "no private mount namespace" >&2
        return 1
    fi
    number=0
    while read -r folder; do
        number=$((number + 1))
        mount --bind "$RUN/judge/copy.$number" "$folder" || return 1
    done <"$RUN/judge/folders"
    dump_config "$RUN/judge/dump" || { cat "$RUN/judge/dump.err" >&2; return 1; }
    literal_imports
}

# config dump of containerd 2.x hides a missing literal import, the daemon does not start with one (runtimes.md 1.3).
literal_imports() {
    sed -n 's|^imports *= *\[\(.*\)\] *$|\1|p' "$RUN/judge/dump" | tr ',' '\n' | sed "s|^[ \"']*||; s|[ \"']*\$||" >"$RUN/judge/imports"
    while read -r import; do
        case $import in
            '' | *[*?[]*) ;;
            /*)
                if [ ! -e "$R$import" ]; then
                    echo "the imported file $import does not exist" >&2
                    return 1
                fi
                ;;
        esac
    done <"$RUN/judge/imports"
}

judge_now() {
    outside=$(readlink "$R/proc/self/ns/mnt" 2>/dev/null || :)
    unshare -m sh "$RUN/guard.sh" judge-inside "$ID" "$outside" >/dev/null 2>"$RUN/judge/err" </dev/null
}

# Judge every prefix of the list of files, because a host can be cut off after each of them; the last one must also
# be as planned. Leaves the dumps of now and of the end in dump.before and dump.after.
judge() {
    rm -rf "$RUN/judge"
    mkdir "$RUN/judge" || broken "no room to judge"
    if [ -z "$(param binary)" ]; then
        say "step judge nothing can be judged on this host before the restart: the plan's prediction counts"
        return 0
    fi
    dump_config "$RUN/dump.before" || : >"$RUN/dump.before"
    shadow_folders || refuse unsafe-path "a file in the root folder cannot be judged"
    copy_folders || broken "the configuration could not be copied"
    judged=0
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
        [ "$KIND" = write ] || continue
        judged=$((judged + 1))
        stage_row || broken "$CONFIGURED could not be staged"
        judge_now || refuse judge "the host's own runtime refuses the new $CONFIGURED: $(one_line <"$RUN/judge/err")"
        handlers_of "$RUN/judge/dump" >"$RUN/judge/handlers"
        WHY=
        default_defined "$RUN/judge/handlers" || refuse judge "with the new $CONFIGURED, $WHY"
    done <"$RUN/table"
    if [ "$judged" -gt 0 ]; then
        cp "$RUN/judge/dump" "$RUN/dump.after"
    else
        cp "$RUN/dump.before" "$RUN/dump.after"
    fi
    WHY=
    as_planned "$RUN/dump.after" || refuse judge "with the new files, $WHY"
    rm -rf "$RUN/judge"
    say "step judge the host's own runtime accepts the staged files ($judged judged)"
}
