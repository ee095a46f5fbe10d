# Is the runtime well: the unit, the CRI plugins, the handlers. Every limit is in seconds of the host.
# Part of the guard (see guard.sh).

# Set ACTIVE, SUB, PID and RESTARTS of unit $1.
unit_state() {
    ACTIVE=unknown SUB=unknown PID=0 RESTARTS=0
    shown=$(ctl show -p ActiveState -p SubState -p MainPID -p NRestarts "$1" 2>/dev/null) || :
    while IFS='=' read -r key value; do
        case $key in
            ActiveState) ACTIVE=$value ;;
            SubState) SUB=$value ;;
            MainPID) PID=$value ;;
            NRestarts) RESTARTS=$value ;;
        esac
    done <<END
$shown
END
    # A unit that restarts its runtime by itself keeps its own process.
    [ "$(param verb)" != watched ] || [ "$1" != "$(param unit)" ] || PID=$(watched_pid)
}

# Print the process of the containerd that reads the plan's configuration, 0 when none runs.
watched_pid() {
    config=$(param config)
    for process in "$R"/proc/[0-9]*; do
        { read -r name <"$process/comm"; } 2>/dev/null && [ "$name" = containerd ] || continue
        words=$(tr '\0' ' ' 2>/dev/null <"$process/cmdline") || continue
        case " $words " in
            *" --config=$config "* | *" --config $config "* | *" -c $config "*)
                echo "${process##*/}"
                return
                ;;
        esac
    done
    echo 0
}

# The ctr that belongs to the runtime: next to its binary, else its flavour's own, else on PATH, else K3s' own.
run_ctr() {
    beside=$(param binary)
    beside=${beside%/*}/ctr
    flavour=
    case $(param socket) in
        */k0s/*) flavour=k0s ;;
        /var/snap/microk8s/*) flavour=microk8s ;;
    esac
    if [ -z "$R" ] && [ -x "$beside" ]; then
        timeout 20 "$beside" "$@"
    elif [ -n "$flavour" ] && flavour=$(command -v "$flavour" || ls "$R/snap/bin/$flavour" 2>/dev/null); then
        shift 2 # it knows its own socket
        timeout 20 "$flavour" ctr "$@"
    elif command -v ctr >/dev/null 2>&1; then
        timeout 20 ctr "$@"
    elif command -v k3s >/dev/null 2>&1; then
        timeout 20 k3s ctr "$@"
    elif [ -x "$(rancher_ctr)" ]; then
        timeout 20 "$(rancher_ctr)" "$@"
    else
        echo "no ctr on this host" >&2
        return 127
    fi
}

# RKE2 keeps its programs below its data folder, which nobody has on PATH.
rancher_ctr() {
    rancher=$(param rendered)
    echo "$R${rancher%/agent/etc/containerd/config.toml}/bin/ctr"
}

# Print the file that K3s or RKE2 rendered, with the drop-ins that it imports behind it.
rendered_whole() {
    cat "$R$(param rendered)" || return 1
    sed -n 's|^imports *= *\["\([^"*]*/\)\*\.toml"\].*|\1|p' "$R$(param rendered)" | while read -r folder; do
        for file in "$R$folder"*.toml; do
            [ ! -f "$file" ] || cat "$file" || return 1
        done
    done
}

# Print what the daemon says of its CRI plugins: ok, error, disabled or unreachable (runtimes.md section 12). Docker
# and CRI-O have none: either they answer or they do not.
cri_state() {
    if [ "$(param kind)" = docker ] || [ "$(param kind)" = crio ]; then
        if live_config "$RUN/live" 2>"$RUN/plugins.err"; then echo ok; else echo unreachable; fi
        rm -f "$RUN/live"
        return
    fi
    if ! plugins=$(run_ctr -a "$R$(param socket)" plugins ls 2>"$RUN/plugins.err" </dev/null); then
        echo unreachable
        return
    fi
    printf '%s\n' "$plugins" | awk '
        $1 == "io.containerd.grpc.v1" && $2 == "cri" { seen = 1; if ($NF != "ok") bad = 1 }
        $1 == "io.containerd.cri.v1" { if ($NF != "ok") bad = 1 }
        END { print bad ? "error" : seen ? "ok" : "disabled" }'
}

# Ask the daemon of Docker or CRI-O for the configuration that it runs with; result in $1.
live_config() {
    case $(param kind) in
        docker)
            timeout 20 docker -H "unix://$R$(param socket)" info --format \
                '{{range $n, $_ := .Runtimes}}handler {{$n}}{{println}}{{end}}default {{.DefaultRuntime}}' >"$1" </dev/null &&
                grep -q '^default .' "$1"
            ;;
        crio)
            # Before 1.26 the asking had a program of its own.
            { timeout 20 crio status -s "$R$(param socket)" config >"$1" </dev/null ||
                timeout 20 crio-status -s "$R$(param socket)" config >"$1" </dev/null; } && grep -q '^ *\[crio' "$1"
            ;;
    esac
}

# Print "default NAME" and "handler NAME" lines of a configuration that the runtime printed.
handlers_of() {
    case $(param kind) in
        docker) cat "$1" ;;
        crio) handlers_of_crio "$1" ;;
        *) handlers_of_containerd "$1" ;;
    esac
}

# `crio config` shows what is as it would be without any file behind "# "; a value that is set goes before it.
handlers_of_crio() {
    awk '
        { gsub(/^[ \t]+|[ \t\r]+$/, "") }
        { line = $0; silent = sub(/^# ?/, "", line) }
        line ~ /^\[[A-Za-z0-9_."-]+\]$/ {
            gsub(/"/, "", line)
            inside = (line == "[crio.runtime]")
            if (index(line, "[crio.runtime.runtimes.") == 1) {
                name = substr(line, 24)
                sub(/\].*$/, "", name)
                sub(/\..*$/, "", name)
                if (!(name in seen)) { seen[name] = 1; print "handler " name }
            } else {
                name = ""
            }
            next
        }
        !silent && name != "" && line ~ /^runtime_path[ \t]*=/ {
            sub(/^[^=]*=[ \t]*/, "", line)
            gsub(/["\047]/, "", line)
            print "option " name ".runtime_path=" line
        }
        inside && line ~ /^default_runtime[ \t]*=/ {
            sub(/^[^=]*=[ \t]*/, "", line)
            gsub(/["\047]/, "", line)
            if (silent) usual = line; else given = line
        }
        END { if (given != "") print "default " given; else if (usual != "") print "default " usual }' "$1"
}

# Those of containerd, and of a file that K3s or k0s wrote for it.
handlers_of_containerd() {
    awk '
        { gsub(/^[ \t]+|[ \t\r]+$/, "") }
        /^\[/ {
            inside = 0
            options = ""
            line = $0
            gsub(/["'\'']/, "", line)
            if (line == "[plugins.io.containerd.grpc.v1.cri.containerd]" ||
                line == "[plugins.io.containerd.cri.v1.runtime.containerd]" ||
                line == "[plugins.cri.containerd]") inside = 1
            at = index(line, ".containerd.runtimes.")
            if (at && (line ~ /^\[plugins\.io\.containerd\.(grpc\.v1\.cri|cri\.v1\.runtime)\./ ||
                       line ~ /^\[plugins\.cri\./)) {
                name = substr(line, at + 21)
                sub(/\]$/, "", name)
                if (name ~ /\.options$/) options = substr(name, 1, length(name) - 8)
                sub(/\.(options|cni_conf_dir)$/, "", name)
                if (!(name in seen)) { seen[name] = 1; print "handler " name }
            }
            next
        }
        options != "" && /^(BinaryName|SystemdCgroup)[ \t]*=/ {
            sub(/[ \t]*=[ \t]*/, "=")
            gsub(/["'\'']/, "")
            print "option " options "." $0
        }
        inside && /^default_runtime_name[ \t]*=/ {
            sub(/^[^=]*=[ \t]*/, "")
            gsub(/["'\'']/, "")
            print "default " $0
        }' "$1"
}

# Check file $1 against the handlers and the default that the plan expects. WHY says what is missing.
as_planned() {
    handlers_of "$1" >"$RUN/handlers.now"
    default=$(sed -n 's|^default ||p' "$RUN/handlers.now" | tail -n 1)
    for handler in $(param handlers); do
        if ! grep -q -x -F "handler $handler" "$RUN/handlers.now"; then
            WHY="the handler $handler is not there"
            return 1
        fi
    done
    options_as_planned || return 1
    expected=$(param default)
    if [ -n "$expected" ] && [ "${default:-runc}" != "$expected" ]; then
        WHY="the default handler is ${default:-runc}, not $expected"
        return 1
    fi
    default_defined "$RUN/handlers.now"
}

# The options of handlers that matter; the last one counts. What a file writes in a way that is not read here is no
# mistake, but a runtime that prints its own configuration says all of it.
options_as_planned() {
    for option in $(param options); do
        has=$(grep -F "option ${option%%=*}=" "$RUN/handlers.now" | tail -n 1 | cut -d = -f 2-)
        case $has in
            "${option#*=}") ;;
            '')
                [ -n "$(param binary)" ] && [ "$(param kind)" != docker ] && [ "${option#*=}" != false ] || continue
                WHY="the handler ${option%%=*} is not ${option#*=}: it is not set"
                return 1
                ;;
            *)
                WHY="the handler ${option%%=*} is $has, not ${option#*=}"
                return 1
                ;;
        esac
    done
}

# A default handler without definition takes the node down, and config dump does not say so.
default_defined() {
    default=$(sed -n 's|^default ||p' "$1" | tail -n 1)
    # Docker takes a shim by its own name.
    case $(param kind)$default in dockerio.containerd.*) return 0 ;; esac
    if [ -n "$default" ] && ! grep -q -x -F "handler $default" "$1"; then
        WHY="the default handler $default is not defined"
        return 1
    fi
}

# Ask the host's own binary, with the arguments of its process, what its configuration comes to; result in $1.
dump_config() {
    dumped=$1 config=$(param config) named=
    binary=$(param binary)
    # A simulated host has its own binaries on PATH only.
    [ -z "$R" ] || binary=${binary##*/}
    set --
    if [ -r "$RUN/arguments" ]; then
        while IFS= read -r word; do
            case $word in
                "$config" | "--config=$config" | "-c=$config")
                    word=${word%"$config"}$R$config
                    named=1
                    ;;
            esac
            set -- "$@" "$word"
        done <"$RUN/arguments"
    fi
    [ -n "$named" ] || set -- "$@" --config "$R$config"
    timeout 60 "$binary" "$@" config dump >"$dumped" 2>"$dumped.err" </dev/null
}

# Does what is on the disk now (Docker, CRI-O: what the daemon runs with) give the handlers as planned?
handlers_live() {
    if [ "$(param kind)" = docker ] || [ "$(param kind)" = crio ]; then
        if ! live_config "$RUN/live" 2>"$RUN/plugins.err"; then
            WHY="$(param unit) does not answer: $(one_line <"$RUN/plugins.err")"
            return 1
        fi
        as_planned "$RUN/live"
        set -- "$?"
        rm -f "$RUN/live" "$RUN/handlers.now"
        return "$1"
    fi
    if [ -n "$(param rendered)" ]; then
        if [ ! -r "$R$(param rendered)" ]; then
            WHY="$(param rendered) is not there"
            return 1
        fi
        rendered_whole >"$RUN/rendered.now"
        as_planned "$RUN/rendered.now"
        set -- "$?"
        rm -f "$RUN/rendered.now"
        return "$1"
    elif [ -n "$(param binary)" ]; then
        if ! dump_config "$RUN/dump.now"; then
            WHY="config dump fails: $(one_line <"$RUN/dump.now.err")"
            rm -f "$RUN/dump.now" "$RUN/dump.now.err"
            return 1
        fi
        as_planned "$RUN/dump.now"
        set -- "$?"
        rm -f "$RUN/dump.now" "$RUN/dump.now.err" "$RUN/handlers.now"
        return "$1"
    fi
}

# waiting SECONDS LIMIT CONDITION LAST-VALUE [EVIDENCE]
waiting() {
    note "wait $1 $2 $3 | $4 | ${5-}"
}

# stay_up LIMIT HOLD CRI: the unit must be up with a process other than $OLD_PID within LIMIT seconds, and then keep
# it for HOLD seconds without a restart. With CRI "ok" its CRI plugins must be ok at once and throughout. 9: the run
# left the state in which this was asked, and the unit is somebody else's business now.
stay_up() {
    unit=$(param unit)
    began=$(date +%s) held='' up_pid='' up_restarts=''
    evidence_at=$began EVIDENCE=''
    read_state
    asked_in=$STATE
    while :; do
        moment=$(date +%s)
        read_state
        [ "$STATE" = "$asked_in" ] || return 9
        unit_state "$unit"
        cri=-
        if [ -z "$held" ]; then
            come_up "$3" || return 1
            if [ -z "$held" ]; then
                why_not_up "$unit" "$cri"
                stands="$ACTIVE ($SUB), CRI $cri"
                [ "$ACTIVE" != active ] || [ "$PID" != "$OLD_PID" ] || stands="$ACTIVE ($SUB), still process $PID of before"
                waiting "$((moment - began))" "$1" "$unit is up" "$stands" "$EVIDENCE"
                if [ "$((moment - began))" -ge "$1" ]; then
                    WHY="$unit is not up after $1 s: $stands"
                    return 1
                fi
            fi
        else
            [ "$3" != ok ] || cri=$(cri_state)
            if [ "$ACTIVE" != active ] || [ "$PID" != "$up_pid" ] || [ "$RESTARTS" != "$up_restarts" ]; then
                WHY="$unit did not stay up: $ACTIVE ($SUB), process $PID instead of $up_pid, $RESTARTS restarts"
                return 1
            fi
            if [ "$3" = ok ] && [ "$cri" != ok ]; then
                words=$(plugin_words)
                WHY="the CRI plugin of $unit went from ok to $cri${words:+: $words}"
                return 1
            fi
            [ "$((moment - held))" -lt "$2" ] || return 0
            waiting "$((moment - held))" "$2" "$unit stays up" "process $PID, CRI $cri"
        fi
        sleep 1
    done
}

# One look while the unit starts; sets held when it is up. Fails when waiting longer cannot help.
come_up() {
    case $ACTIVE in
        active)
            [ "$PID" != 0 ] && [ "$PID" != "$OLD_PID" ] || return 0
            if [ "$1" = ok ]; then
                cri=$(cri_state)
                case $cri in
                    ok) ;;
                    unreachable) return 0 ;;
                    *)
                        WHY="$unit runs, but its CRI plugin is $cri"
                        words=$(plugin_words)
                        WHY="$WHY${words:+: $words}"
                        return 1
                        ;;
                esac
            fi
            held=$moment up_pid=$PID up_restarts=$RESTARTS
            ;;
        failed)
            WHY="$unit failed to start"
            return 1
            ;;
    esac
    if [ "$RESTARTS" -ge 3 ]; then
        WHY="$unit starts and dies again and again ($RESTARTS times)"
        return 1
    fi
}
