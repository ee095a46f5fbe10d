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
    [ "$P_verb" != watched ] || [ "$1" != "$P_unit" ] || PID=$(watched_pid)
}

# Print the process of the containerd that reads the plan's configuration, 0 when none runs.
watched_pid() {
    config=$P_config
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
    beside=$P_binary
    beside=${beside%/*}/ctr
    flavour=
    case $P_socket in
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
    rancher=$P_rendered
    echo "$R${rancher%/agent/etc/containerd/config.toml}/bin/ctr"
}

# Print the file that K3s or RKE2 rendered, with the drop-ins that it imports behind it.
rendered_whole() {
    cat "$R$P_rendered" || return 1
    sed -n 's|^imports *= *\["\([^"*]*/\)\*\.toml"\].*|\1|p' "$R$P_rendered" | while read -r folder; do
        for file in "$R$folder"*.toml; do
            [ ! -f "$file" ] || cat "$file" || return 1
        done
    done
}

# Set CRI to what the daemon says of its CRI plugins: ok, error, disabled or unreachable (runtimes.md section 12).
# Docker and CRI-O have none: either they answer or they do not.
look_at_cri() {
    CRI=unreachable
    if [ "$P_kind" = docker ] || [ "$P_kind" = crio ]; then
        ! live_config "$RUN/live" 2>"$RUN/plugins.err" || CRI=ok
        rm -f "$RUN/live"
        return
    fi
    plugins=$(ask_plugins 2>"$RUN/plugins.err" </dev/null) || return 0
    CRI=disabled
    while read -r type id words; do
        case $type,$id in
            io.containerd.grpc.v1,cri) [ "$CRI" != disabled ] || CRI=ok ;;
            io.containerd.cri.v1,*) ;;
            *) continue ;;
        esac
        [ "${words##*[[:blank:]]}" = ok ] || CRI=error
    done <<END
$plugins
END
}

# Print the plugins in the columns of `ctr plugins ls`. Perl asks the socket itself in a quarter of the time.
ask_plugins() {
    if [ -r "$RUN/plugins.pl" ] && command -v perl >/dev/null 2>&1 &&
        perl "$RUN/plugins.pl" "$R$P_socket" 2>/dev/null; then
        return 0
    fi
    run_ctr -a "$R$P_socket" plugins ls
}

# Ask the daemon of Docker or CRI-O for the configuration that it runs with; result in $1.
live_config() {
    case $P_kind in
        docker)
            timeout 20 docker -H "unix://$R$P_socket" info --format \
                '{{range $n, $_ := .Runtimes}}handler {{$n}}{{println}}{{end}}default {{.DefaultRuntime}}' >"$1" </dev/null &&
                grep -q '^default .' "$1"
            ;;
        crio)
            # Before 1.26 the asking had a program of its own.
            { timeout 20 crio status -s "$R$P_socket" config >"$1" </dev/null ||
                timeout 20 crio-status -s "$R$P_socket" config >"$1" </dev/null; } && grep -q '^ *\[crio' "$1"
            ;;
    esac
}

# Print "default NAME" and "handler NAME" lines of a configuration that the runtime printed.
handlers_of() {
    case $P_kind in
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
    look_at_handlers "$1"
    for handler in $P_handlers; do
        case $HANDLERS in
            *"${NL}handler $handler$NL"*) ;;
            *)
                WHY="the handler $handler is not there"
                return 1
                ;;
        esac
    done
    options_as_planned || return 1
    if [ -n "$P_default" ] && [ "${DEFAULT:-runc}" != "$P_default" ]; then
        WHY="the default handler is ${DEFAULT:-runc}, not $P_default"
        return 1
    fi
    default_defined
}

# Set HANDLERS to the lines of handlers_of for file $1, and DEFAULT to the default among them.
look_at_handlers() {
    HANDLERS="$NL$(handlers_of "$1")$NL" DEFAULT=
    case $HANDLERS in
        *"${NL}default "*)
            DEFAULT=${HANDLERS##*"${NL}default "}
            DEFAULT=${DEFAULT%%"$NL"*}
            ;;
    esac
}

# The options of handlers that matter; the last one counts. What a file writes in a way that is not read here is no
# mistake, but a runtime that prints its own configuration says all of it.
options_as_planned() {
    for option in $P_options; do
        has=${HANDLERS##*"${NL}option ${option%%=*}="}
        [ "$has" = "$HANDLERS" ] && has= || has=${has%%"$NL"*}
        case $has in
            "${option#*=}") ;;
            '')
                [ -n "$P_binary" ] && [ "$P_kind" != docker ] && [ "${option#*=}" != false ] || continue
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
    # Docker takes a shim by its own name.
    case $P_kind$DEFAULT in dockerio.containerd.*) return 0 ;; esac
    case $DEFAULT,$HANDLERS in
        ,* | *,*"${NL}handler $DEFAULT$NL"*) ;;
        *)
            WHY="the default handler $DEFAULT is not defined"
            return 1
            ;;
    esac
}

# Ask the host's own binary, with the arguments of its process, what its configuration comes to; result in $1.
dump_config() {
    dumped=$1 named=
    binary=$P_binary
    # A simulated host has its own binaries on PATH only.
    [ -z "$R" ] || binary=${binary##*/}
    set --
    if [ -r "$RUN/arguments" ]; then
        while IFS= read -r word; do
            case $word in
                "$P_config" | "--config=$P_config" | "-c=$P_config")
                    word=${word%"$P_config"}$R$P_config
                    named=1
                    ;;
            esac
            set -- "$@" "$word"
        done <"$RUN/arguments"
    fi
    [ -n "$named" ] || set -- "$@" --config "$R$P_config"
    timeout 60 "$binary" "$@" config dump >"$dumped" 2>"$dumped.err" </dev/null
}

# Does what is on the disk now (Docker, CRI-O: what the daemon runs with) give the handlers as planned?
handlers_live() {
    if [ "$P_kind" = docker ] || [ "$P_kind" = crio ]; then
        if ! live_config "$RUN/live" 2>"$RUN/plugins.err"; then
            WHY="$P_unit does not answer: $(one_line <"$RUN/plugins.err")"
            return 1
        fi
        as_planned "$RUN/live"
        set -- "$?"
        rm -f "$RUN/live"
        return "$1"
    fi
    if [ -n "$P_rendered" ]; then
        if [ ! -r "$R$P_rendered" ]; then
            WHY="$P_rendered is not there"
            return 1
        fi
        rendered_whole >"$RUN/rendered.now"
        as_planned "$RUN/rendered.now"
        set -- "$?"
        rm -f "$RUN/rendered.now"
        return "$1"
    elif [ -n "$P_binary" ]; then
        # Nothing else is read: the very bytes that the runtime judged before lie there still.
        [ ! -e "$RUN/judged" ] || ! still_ours || return 0
        WHY=
        if ! dump_config "$RUN/dump.now"; then
            WHY="config dump fails: $(one_line <"$RUN/dump.now.err")"
            rm -f "$RUN/dump.now" "$RUN/dump.now.err"
            return 1
        fi
        as_planned "$RUN/dump.now"
        set -- "$?"
        rm -f "$RUN/dump.now" "$RUN/dump.now.err"
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
    unit=$P_unit
    tick
    began=$NOW held='' up_pid='' up_restarts=''
    evidence_at=$began EVIDENCE=''
    read_state
    asked_in=$STATE
    while :; do
        tick
        moment=$NOW
        read_state
        [ "$STATE" = "$asked_in" ] || return 9
        unit_state "$unit"
        CRI=-
        if [ -z "$held" ]; then
            come_up "$3" || return 1
            if [ -n "$held" ] && [ "$2" = 0 ]; then
                return 0
            elif [ -z "$held" ]; then
                why_not_up "$unit" "$CRI"
                stands="$ACTIVE ($SUB), CRI $CRI"
                [ "$ACTIVE" != active ] || [ "$PID" != "$OLD_PID" ] || stands="$ACTIVE ($SUB), still process $PID of before"
                waiting "$((moment - began))" "$1" "$unit is up" "$stands" "$EVIDENCE"
                if [ "$((moment - began))" -ge "$1" ]; then
                    WHY="$unit is not up after $1 s: $stands"
                    return 1
                fi
            fi
        else
            [ "$3" != ok ] || look_at_cri
            if [ "$ACTIVE" != active ] || [ "$PID" != "$up_pid" ] || [ "$RESTARTS" != "$up_restarts" ]; then
                WHY="$unit did not stay up: $ACTIVE ($SUB), process $PID instead of $up_pid, $RESTARTS restarts"
                return 1
            fi
            if [ "$3" = ok ] && [ "$CRI" != ok ]; then
                words=$(plugin_words)
                WHY="the CRI plugin of $unit went from ok to $CRI${words:+: $words}"
                return 1
            fi
            [ "$((moment - held))" -lt "$2" ] || return 0
            waiting "$((moment - held))" "$2" "$unit stays up" "process $PID, CRI $CRI"
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
                look_at_cri
                case $CRI in
                    ok) ;;
                    unreachable) return 0 ;;
                    *)
                        WHY="$unit runs, but its CRI plugin is $CRI"
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
