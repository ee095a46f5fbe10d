# The host's own runtime judges the staged bytes under their real paths, in a private mount namespace.
# Part of the guard (see guard.sh).

# The folders that are shadowed by copies: for each written path its nearest existing folder, without those that lie
# in another one of them.
shadow_folders() {
    shadowed=$NL
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
        [ "$KIND" = write ] || continue
        existing_folder "$TARGET"
        case $EXISTING in / | "${R:-/}") refuse unsafe-path "a file in the root folder cannot be judged" ;; esac
        above=$EXISTING
        while [ -n "$above" ]; do
            case $shadowed in *"$NL$above$NL"*) continue 2 ;; esac
            above=${above%/*}
        done
        outer "$EXISTING"
    done <"$RUN/table"
    printf %s "${shadowed#"$NL"}" >"$RUN/judge/folders" || broken "no room to judge: the run folder cannot be written"
}

# Add folder $1 to those that are shadowed and take out those that lie in it.
outer() {
    rest=${shadowed#"$NL"} shadowed="$NL$1$NL"
    while [ -n "$rest" ]; do
        one=${rest%%"$NL"*} rest=${rest#*"$NL"}
        case $one in "$1"/*) ;; *) shadowed="$shadowed$one$NL" ;; esac
    done
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
                [ -d "${staged%/*}" ] || mkdir -p "${staged%/*}" || return 1
                cat "$RUN/after/$N" >"$staged"
                return
                ;;
        esac
    done <"$RUN/judge/folders"
    return 1
}

# Runs inside the new mount namespace: $1 is the namespace outside. Nothing is mounted unless it is another one.
# Every prefix of the list of files is judged, because a host can be cut off after each of them.
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
    : >"$RUN/judge/inside"
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED; do
        [ "$KIND" = write ] || continue
        stage_row || broken "$CONFIGURED could not be staged"
        judge_prefix
    done <"$RUN/table"
}

judge_prefix() {
    dump_config "$RUN/judge/dump" ||
        refuse judge "the host's own runtime refuses the new $CONFIGURED: $(one_line <"$RUN/judge/dump.err")"
    literal_imports
    [ -z "$WHY" ] || refuse judge "the host's own runtime refuses the new $CONFIGURED: $WHY"
    look_at_handlers "$RUN/judge/dump"
    default_defined || refuse judge "with the new $CONFIGURED, $WHY"
}

# Set WHY when an import that is written out is missing: config dump of containerd 2.x hides that, and the daemon does not
# start with it (runtimes.md 1.3).
literal_imports() {
    WHY=
    imports=$(sed -n 's|^imports *= *\[\(.*\)\] *$|\1|p' "$RUN/judge/dump")
    while [ -n "$imports" ]; do
        import=${imports%%,*}
        case $imports in *,*) imports=${imports#*,} ;; *) imports= ;; esac
        import=${import#*[\"\']}
        import=${import%[\"\']*}
        case $import in
            '' | *[*?[]*) ;;
            /*)
                if [ ! -e "$R$import" ]; then
                    WHY="the imported file $import does not exist"
                    return
                fi
                ;;
        esac
    done
}

# Judge in a namespace of its own; what is refused there is said there. Without namespace nothing was judged.
judge_now() {
    outside=$(readlink "$R/proc/self/ns/mnt" 2>/dev/null || :)
    unshare -m sh "$RUN/guard.sh" judge-inside "$ID" "$outside" 2>"$RUN/judge/err" </dev/null && return 0
    status=$?
    [ ! -e "$RUN/judge/inside" ] || exit "$status"
    refuse judge "the staged files cannot be judged on this host: $(one_line <"$RUN/judge/err")"
}

# The words with which the unit's process (see remember_health) was started, one a line, without the program itself.
real_arguments() {
    [ ! -r "$R/proc/$PID/cmdline" ] || tr '\0' '\n' <"$R/proc/$PID/cmdline" | sed 1d
}

# Docker judges a file wherever it lies: with the daemon's real flags, because one of them that is in the file as well
# stops it. It takes an unknown default runtime, which the plan has looked at.
judge_docker() {
    real_arguments >"$RUN/judge/arguments"
    binary=$P_binary
    [ -z "$R" ] || binary=${binary##*/}
    judged=0
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED <&3; do
        [ "$KIND" = write ] && [ "$CONFIGURED" = "$P_config" ] && [ "$AFTER" != absent ] || continue
        set --
        while IFS= read -r word; do set -- "$@" "$word"; done <"$RUN/judge/arguments"
        if ! timeout 60 "$binary" "$@" --validate --config-file "$RUN/after/$N" >"$RUN/judge/err" 2>&1 </dev/null; then
            if grep -q 'unknown flag: --validate' "$RUN/judge/err"; then
                rm -rf "$RUN/judge"
                say "step judge this dockerd cannot judge a file: the plan's own judgement counts"
                return 0
            fi
            refuse judge "the host's own dockerd refuses the new $CONFIGURED: $(one_line <"$RUN/judge/err")"
        fi
        judged=$((judged + 1))
    done 3<"$RUN/table"
    rm -rf "$RUN/judge"
    say "step judge the host's own dockerd accepts the staged file ($judged judged)"
}

# CRI-O prints what it makes of its file and of a copy of its folder with the staged file in it.
judge_crio() {
    real_arguments >"$RUN/judge/arguments"
    binary=$P_binary
    [ -z "$R" ] || binary=${binary##*/}
    judged=0
    while IFS="$TAB" read -r N KIND BEFORE AFTER MODE META TARGET CONFIGURED <&3; do
        case $CONFIGURED in */crio.conf.d/*) ;; *) continue ;; esac
        [ "$KIND" = write ] || continue
        mkdir -p "$RUN/judge/folder"
        [ ! -d "${TARGET%/*}" ] || cp -a "${TARGET%/*}/." "$RUN/judge/folder" || broken "${TARGET%/*} could not be copied"
        rm -f "$RUN/judge/folder/${TARGET##*/}"
        [ "$AFTER" = absent ] || cat "$RUN/after/$N" >"$RUN/judge/folder/${TARGET##*/}" || broken "no room to judge"
        set --
        while IFS= read -r word; do set -- "$@" "$word"; done <"$RUN/judge/arguments"
        timeout 60 "$binary" "$@" --config-dir "$RUN/judge/folder" config >"$RUN/judge/dump" 2>"$RUN/judge/err" </dev/null ||
            refuse judge "the host's own CRI-O refuses the new $CONFIGURED: $(one_line <"$RUN/judge/err")"
        WHY=
        as_planned "$RUN/judge/dump" || refuse judge "with the new $CONFIGURED, $WHY"
        judged=$((judged + 1))
    done 3<"$RUN/table"
    rm -rf "$RUN/judge"
    say "step judge the host's own CRI-O accepts the staged files ($judged judged)"
}

# Judge the staged files; the last state must be as planned. Leaves the dumps of now and of the end in dump.before and dump.after.
judge() {
    rm -rf "$RUN/judge"
    mkdir "$RUN/judge" || broken "no room to judge"
    case $P_kind in
        docker | crio)
            "judge_$P_kind"
            return
            ;;
    esac
    if [ -z "$P_binary" ]; then
        say "step judge nothing can be judged on this host before the restart: the plan's prediction counts"
        return 0
    fi
    ! first_line "$R/proc/$PID/comm" || [ "$LINE" != containerd ] || real_arguments >"$RUN/arguments"
    dump_config "$RUN/dump.before" || : >"$RUN/dump.before"
    shadow_folders
    copy_folders || broken "the configuration could not be copied"
    judged=$(grep -c "^[0-9]*${TAB}write$TAB" "$RUN/table")
    if [ "$judged" -gt 0 ]; then
        judge_now
        cp "$RUN/judge/dump" "$RUN/dump.after"
    else
        cp "$RUN/dump.before" "$RUN/dump.after"
    fi
    WHY=
    as_planned "$RUN/dump.after" || refuse judge "with the new files, $WHY"
    rm -rf "$RUN/judge"
    : >"$RUN/judged"
    say "step judge the host's own runtime accepts the staged files ($judged judged)"
}
