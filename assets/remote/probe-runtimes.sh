# Part of the probe: units, processes, every container runtime, the Kubernetes flavour.
# Not POSIX: readlink systemctl containerd ctr k3s rke2 k0s kubelet dockerd crio

look_at_units() {
    units='containerd.service docker.service crio.service cri-docker.service kubelet.service k3s.service k3s-agent.service
        rke2-server.service rke2-agent.service k0sworker.service k0scontroller.service snap.k8s.containerd.service
        snap.k8s.kubelet.service snap.microk8s.daemon-containerd.service snap.microk8s.daemon-kubelite.service
        microshift.service nvidia-persistenced.service nvidia-fabricmanager.service nvidia-cdi-refresh.service
        nvidia-dcgm.service'
    for unit in "$R"/etc/systemd/system/k3s-*.service "$R"/etc/systemd/system/rke2-*.service; do
        [ -f "$unit" ] || continue
        case "$NL$units " in *[!a-z0-9.-]"${unit##*/}"[!a-z0-9.-]*) ;; *) units="$units ${unit##*/}" ;; esac
    done
    if have systemctl; then
        # shellcheck disable=SC2086  # the list is split on purpose
        capture units 20 systemctl show \
            -p Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,FragmentPath,ExecStart $units
    else
        unseen 'services' 'there is no systemctl'
    fi
    for unit in k3s k3s-agent rke2-server rke2-agent containerd docker kubelet; do
        if [ -x "$R/etc/init.d/$unit" ]; then emit "init-script:$unit" 0 ''; fi
    done
}

look_at_processes() {
    PIDS=
    [ -d "$R/proc/1" ] || unseen 'processes of other users' '/proc hides them (hidepid)'
    for proc in "$R"/proc/[0-9]*; do
        first_line "$proc/comm" || first_line "$proc/cmdline" || continue
        case $LINE in
        containerd-shim* | */containerd-shim*) ;;
        containerd* | */containerd* | dockerd* | */dockerd* | crio* | */crio* | cri-dockerd* | k3s* | */k3s* | rke2* | \
            */rke2* | k0s* | */k0s* | kubelet* | */kubelet* | kubelite* | microshift* | kube-apiserver* | */kube-apiserver*)
            look_at_process "${proc##*/}"
            ;;
        esac
    done
}

look_at_process() { # pid: emits it, and remembers a containerd of the host that root started
    proc_owner=0 proc_nested=
    if [ -r "$R/proc/$1/status" ]; then
        while read -r proc_key proc_value proc_inner; do
            case $proc_key in
            Uid:) proc_owner=$proc_value ;;
            NSpid:) proc_nested=$proc_inner; break ;;
            esac
        done <"$R/proc/$1/status"
    elif [ -z "$R" ]; then
        return 0
    fi
    [ -z "$proc_nested" ] || return 0 # it runs in a container of this host
    proc_text="comm=$LINE${NL}uid=$proc_owner$NL"
    proc_exe=
    if [ -L "$R/proc/$1/exe" ]; then proc_exe=$(readlink "$R/proc/$1/exe" 2>/dev/null); fi
    if [ -n "$proc_exe" ]; then proc_text="${proc_text}exe=$proc_exe$NL"; fi
    proc_group=
    if slurp "$R/proc/$1/cgroup"; then proc_group=$TEXT; fi
    set -f
    IFS=$NL
    for line in $proc_group; do proc_text="${proc_text}cgroup=$line$NL"; done
    # shellcheck disable=SC2046  # one argument a line
    set -- "$1" $(tr '\000' '\n' <"$R/proc/$1/cmdline" 2>/dev/null)
    IFS=$BLANKS
    set +f
    proc_pid=$1
    shift
    proc_config= proc_socket= proc_name=${1-} flag=
    for arg; do
        case $flag in
        --config | -c) proc_config=$arg ;;
        --address | -a) proc_socket=$arg ;;
        esac
        case $arg in
        --config=* | -c=*) proc_config=${arg#*=} ;;
        --address=* | -a=*) proc_socket=${arg#*=} ;;
        --token=* | --agent-token=*) arg="${arg%%=*}=hidden" ;;
        esac
        case $flag in --token | --agent-token | -t) arg=hidden ;; esac
        proc_text="${proc_text}arg=$arg$NL"
        flag=$arg
    done
    emit "process:$proc_pid" 0 "$proc_text"
    [ "$proc_owner" = 0 ] || return 0
    case $proc_group in *docker-* | */docker/* | *kubepods* | *libpod* | *crio-* | *cri-containerd-*) return 0 ;; esac
    case ${proc_name##*/} in
    containerd) PIDS="$PIDS$proc_pid $proc_exe|$proc_name|$proc_config|$proc_socket$NL" ;;
    k3s-server | k3s-agent | k3s) K3S=1 ;;
    esac
}

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

look_at_kubernetes() {
    look_at_k3s
    if have rke2; then capture rke2-version 10 rke2 --version; fi
    if have k0s; then capture k0s-version 10 k0s version; fi
    if have kubelet; then capture kubelet-version 10 kubelet --version; fi
    for snap in k8s microk8s; do
        [ -r "$R/snap/$snap/current/meta/snap.yaml" ] || continue
        while read -r snap_key snap_value; do
            if [ "$snap_key" = version: ]; then emit "snap:$snap" 0 "$snap_value"; break; fi
        done <"$R/snap/$snap/current/meta/snap.yaml"
    done
    for file in /var/lib/kubelet/kubeadm-flags.env /etc/default/kubelet /etc/sysconfig/kubelet; do
        emit_file "kubelet-flags:$file" "$R$file"
    done
    for file in /var/lib/kubelet/instance-config.yaml /var/lib/kubelet/config.yaml; do
        [ -r "$R$file" ] || continue
        kube_text=
        while IFS= read -r line || [ -n "$line" ]; do
            case $line in containerRuntimeEndpoint:* | cgroupDriver:*) kube_text="$kube_text$line$NL" ;; esac
        done <"$R$file"
        emit "kubelet-config:$file" 0 "$kube_text"
    done
    marks=
    for file in /etc/kubernetes/kubelet.conf /etc/kubernetes/manifests/kube-apiserver.yaml /var/lib/kubelet/config.yaml \
        /etc/rancher/k3s /var/lib/rancher/k3s /var/lib/rancher/k3s/server /usr/local/bin/k3s /etc/rancher/rke2 \
        /var/lib/rancher/rke2 /var/lib/rancher/rke2/server /etc/k0s /snap/k8s /snap/microk8s /etc/microshift \
        /run/containerd/containerd.sock /var/run/crio/crio.sock /run/crio/crio.sock; do
        if [ -e "$R$file" ]; then marks="$marks$file$NL"; fi
    done
    emit kubernetes-marks 0 "$marks"
}

look_at_k3s() {
    if have k3s; then
        K3S=1
        capture k3s-version 10 k3s --version
    fi
    if [ -e "$R/var/lib/rancher/k3s" ] || [ -e "$R/etc/rancher/k3s" ]; then K3S=1; fi
    [ "$K3S" = 1 ] || [ -n "$K3S_DATA" ] || return 0
    add_file /etc/rancher/k3s/config.yaml
    add_file /etc/rancher/k3s/config.yaml.d/50-gpuwizard.yaml
    for file in "$R"/etc/rancher/k3s/config.yaml.d/*.yaml "$R"/etc/rancher/k3s/config.yaml.d/*.yml; do
        add_existing "$file"
    done
    if first_line "$R/etc/rancher/node/id"; then emit node-id 0 "$LINE"; fi
    find_k3s_data
    for data in $K3S_DATA; do
        etc=$data/agent/etc/containerd
        add_file "$etc/config.toml"
        add_file "$etc/config.toml.tmpl"
        add_file "$etc/config-v3.toml.tmpl"
        for file in "$R$etc"/config.toml.d/*.toml "$R$etc"/config-v3.toml.d/*.toml; do add_existing "$file"; done
    done
}

find_k3s_data() { # where no containerd of K3s runs: its configuration, else the default
    [ -z "$K3S_DATA" ] || return 0
    for file in "$R"/etc/rancher/k3s/config.yaml "$R"/etc/rancher/k3s/config.yaml.d/*.yaml; do
        [ -r "$file" ] || continue
        while read -r k3s_key k3s_value _ || [ -n "$k3s_key" ]; do
            case $k3s_key,$k3s_value in
            data-dir:,[\"\']/*) k3s_value=${k3s_value#?} K3S_DATA=${k3s_value%?} ;;
            data-dir:,/*) K3S_DATA=$k3s_value ;;
            esac
        done <"$file"
    done
    [ -n "$K3S_DATA" ] || K3S_DATA=/var/lib/rancher/k3s
}
