# Part of the probe: units and processes.
# Not POSIX: readlink systemctl

look_at_units() {
    units='containerd.service docker.service crio.service cri-docker.service kubelet.service k3s.service k3s-agent.service
        rke2-server.service rke2-agent.service k0sworker.service k0scontroller.service snap.k8s.containerd.service
        snap.k8s.kubelet.service snap.microk8s.daemon-containerd.service snap.microk8s.daemon-kubelite.service
        snap.k8s.k8sd.service snap.microk8s.daemon-apiserver-kicker.service microshift.service
        nvidia-persistenced.service nvidia-fabricmanager.service nvidia-imex.service nvidia-cdi-refresh.service
        nvidia-cdi-refresh.path nvidia-dcgm.service'
    for unit in "$R"/etc/systemd/system/k3s-*.service "$R"/etc/systemd/system/rke2-*.service; do
        [ -f "$unit" ] || continue
        case "$NL$units " in *[!a-z0-9.-]"${unit##*/}"[!a-z0-9.-]*) ;; *) units="$units ${unit##*/}" ;; esac
    done
    if have systemctl; then
        # shellcheck disable=SC2086  # the list is split on purpose
        capture units 20 systemctl show \
            -p Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,Result,NeedDaemonReload \
            -p FragmentPath,ExecStart,Environment $units
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
