# Why the unit is not up yet, or its CRI plugin not ok: what the host itself shows of the reason.
# Part of the guard (see guard.sh).

# Print the last complaints of unit $1 since its restart. Lines that print a whole configuration are left out: it may
# hold passwords.
complaints() {
    command -v journalctl >/dev/null 2>&1 || return 0
    since=0
    [ ! -r "$RUN/activated" ] || read -r since _ <"$RUN/activated"
    journalctl -u "$1" -n 80 --since="@${since:-0}" --no-pager -o cat 2>/dev/null </dev/null |
        grep -i -E 'level=(warn|error|fatal)|fail|panic|refuse' | grep -v -i 'with config' | tail -n 5 | cut -c 1-400
}

# The complaints of the unit go to the log of the run, the last one also to WHY.
last_words() {
    words=$(complaints "$1")
    [ -n "$words" ] || return 0
    while IFS= read -r line; do
        note "unit $line"
    done <<END
$words
END
    WHY="$WHY; its last words: $(printf '%s\n' "$words" | tail -n 1)"
}

# Print what the CRI plugin itself says of its error; nothing when there is nobody to ask.
plugin_words() {
    case $P_kind in docker | crio) return 0 ;; esac
    run_ctr -a "$R$P_socket" plugins ls -d 2>/dev/null </dev/null | awk '
        $1 == "Type:" { kind = $2 }
        $1 == "ID:" { ours = kind == "io.containerd.cri.v1" || (kind == "io.containerd.grpc.v1" && $2 == "cri") }
        ours && $1 == "Message:" { sub(/^[ \t]*Message:[ \t]*/, ""); print; exit }' | cut -c 1-400
}

# Set EVIDENCE: how the process of unit $1 last ended, its last complaint, what its CRI socket answered ($2 is the state
# of the CRI). Looked for every 5 s only, because it takes programs to ask.
why_not_up() {
    [ "$((moment - evidence_at))" -ge 5 ] || return 0
    evidence_at=$moment
    if [ "$ACTIVE" = active ] && [ "$2" = unreachable ]; then
        EVIDENCE=$(one_line <"$RUN/plugins.err")
        return 0
    fi
    ended=$(ctl show -p Result -p ExecMainStatus "$1" 2>/dev/null | tr '\n' ' ')
    case $ended in *'Result=success'* | '') ended='' ;; esac
    EVIDENCE="$ended$(complaints "$1" | tail -n 1)"
}
