# Part of the probe: every container runtime.
# Not POSIX: containerd ctr dockerd crio k3s

look_at_runtimes() {
    plain=0
    set -f
    IFS=$NL
    # shellcheck disable=SC2086  # one process a line
    set -- $PIDS
    IFS=$BLANKS
    set +f
    for entry; do
        run_pid=${entry%% *}
        entry=${entry#* }
        run_exe=${entry%%|*}
        entry=${entry#*|}
        run_name=${entry%%|*}
        entry=${entry#*|}
        run_config=${entry%%|*}
        run_socket=${entry#*|}
        case $run_config in '') run_config=/etc/containerd/config.toml plain=1 ;; /etc/containerd/config.toml) plain=1 ;; esac
        look_at_containerd "$run_pid"
    done
    if [ "$plain" = 0 ] && have containerd && ! containerd_is_k3s; then
        run_exe= run_name=containerd run_config=/etc/containerd/config.toml run_socket=
        look_at_containerd 0
    fi
    add_file /etc/containerd/config.toml
    add_file /etc/containerd/conf.d/99-gpuwizard-nvidia.toml
    for file in "$R"/etc/containerd/conf.d/*.toml; do add_existing "$file"; done
    if have dockerd; then capture docker-version 10 dockerd --version; fi
    if [ -e "$R/etc/docker/daemon.json" ]; then add_file /etc/docker/daemon.json; fi
    if have crio; then capture crio-version 10 crio --version; fi
    if [ -e "$R/etc/crio/crio.conf" ]; then add_file /etc/crio/crio.conf; fi
    for file in "$R"/etc/crio/crio.conf.d/*; do add_existing "$file"; done
}

containerd_is_k3s() { # K3s may put its own containerd applet into PATH
    case $(command -v containerd) in */rancher/*) return 0 ;; esac
    return 1
}

look_at_containerd() { # pid, or 0 when none runs; reads run_exe run_name run_config run_socket
    run_key=$1
    run_binary=containerd
    run_exe=${run_exe% (deleted)}
    if [ -z "$R" ]; then
        if [ -n "$run_exe" ] && [ -x "$run_exe" ]; then
            run_binary=$run_exe
        else
            case $run_name in /*) if [ -x "$run_name" ]; then run_binary=$run_name; fi ;; esac
        fi
    fi
    add_file "$run_config"
    walk_imports "$run_config"
    case $run_config in
    */agent/etc/containerd/config.toml) # K3s and RKE2: their rendered file says it, and the binary is an applet
        run_data=${run_config%/agent/etc/containerd/config.toml}
        if [ -x "$R$run_data/data/current/bin/containerd" ]; then run_exe=$run_data/data/current/bin/containerd; fi
        emit "containerd:$run_key" 0 \
            "config=$run_config${NL}socket=${run_socket:-/run/k3s/containerd/containerd.sock}${NL}binary=$run_exe$NL"
        case $run_exe in */containerd) capture "containerd-version:$run_key" 10 "$R$run_exe" --version ;; esac
        case $run_config in
        */rke2/*) ;;
        *)
            K3S_DATA="$K3S_DATA$run_data$NL"
            if [ "$ROOT" = 1 ] && have k3s; then capture "containerd-plugins:$run_key" 15 k3s ctr plugins ls; fi
            ;;
        esac
        return
        ;;
    esac
    if [ -n "$R" ] || have "$run_binary"; then capture "containerd-version:$run_key" 10 "$run_binary" --version; fi
    dump=
    if [ "$ROOT" = 1 ]; then
        dump=$(limit 20 "$run_binary" --config "$R$run_config" config dump 2>/dev/null </dev/null)
        STATUS=$?
        if [ "$STATUS" = 0 ]; then
            emit "containerd-dump:$run_key" 0 "$dump"
        else
            dump=
            capture "containerd-error:$run_key" 20 "$run_binary" --config "$R$run_config" config dump
        fi
    fi
    if [ -z "$run_socket" ]; then
        # [grpc], or from version 4 on [plugins.'io.containerd.server.v1.grpc']
        run_socket=$(printf '%s\n' "$dump" | sed -n \
            "/^ *\[\(plugins.*server\.v1\.\)\{0,1\}grpc['\"]*\]/,/^ *\[/s/^ *address = [\"']\(.*\)[\"'] *\$/\1/p")
    fi
    if [ -z "$run_socket" ] && [ "$run_config" = /etc/containerd/config.toml ]; then
        run_socket=/run/containerd/containerd.sock
    fi
    emit "containerd:$run_key" 0 "config=$run_config${NL}socket=$run_socket${NL}binary=$run_binary$NL"
    if [ "$ROOT" = 1 ] && [ "$run_key" != 0 ] && [ -n "$run_socket" ] && have ctr; then
        capture "containerd-plugins:$run_key" 10 ctr --address "$R$run_socket" plugins ls
    fi
}
