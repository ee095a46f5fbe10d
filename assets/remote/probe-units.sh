# Part of the probe: units and processes.
# Not POSIX: systemctl

look_at_units() { # UNITS keeps what systemctl printed
    UNITS=
    units='containerd.service docker.service crio.service cri-docker.service kubelet.service k3s.service k3s-agent.service
        rke2-server.service rke2-agent.service k0sworker.service k0scontroller.service snap.k8s.containerd.service
        snap.k8s.kubelet.service snap.microk8s.daemon-containerd.service snap.microk8s.daemon-kubelite.service
        snap.k8s.k8sd.service snap.microk8s.daemon-apiserver-kicker.service snap.docker.dockerd.service microshift.service
        nvidia-persistenced.service nvidia-fabricmanager.service nvidia-imex.service nvidia-cdi-refresh.service
        nvidia-cdi-refresh.path nvidia-dcgm.service'
    for unit in "$R"/etc/systemd/system/k3s-*.service "$R"/etc/systemd/system/rke2-*.service \
        "$R"/etc/systemd/system/*containerd*.service "$R"/etc/systemd/system/*docker*.service \
        "$R"/etc/systemd/system/*crio*.service; do
        [ -f "$unit" ] || continue
        unit=${unit##*/}
        case $unit in *[!A-Za-z0-9_.:-]*) continue ;; esac # also templates (name@.service)
        case "$NL$units " in *[!a-z0-9.-]"$unit"[!a-z0-9.-]*) ;; *) units="$units $unit" ;; esac
    done
    if have systemctl; then
        sort_units
        STATUS=0
        if [ -n "$units_there" ]; then
            # shellcheck disable=SC2086  # the list is split on purpose
            UNITS=$(limit 20 systemctl show \
                -p Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,Result,NeedDaemonReload \
                -p FragmentPath,ExecStart,Environment,EnvironmentFiles $units_there 2>&1 </dev/null)
            STATUS=$?
        fi
        emit units "$STATUS" "$UNITS$units_missing"
    else
        unseen 'services' 'there is no systemctl'
    fi
    for unit in k3s k3s-agent rke2-server rke2-agent containerd docker kubelet; do
        if [ -x "$R/etc/init.d/$unit" ]; then emit "init-script:$unit" 0 ''; fi
    done
}

sort_units() { # units → units_there, and units_missing as text: systemd looks a millisecond for each that is not there
    units_there= units_missing=
    for unit in $units; do
        unit_found=
        for dir in /etc/systemd/system /usr/lib/systemd/system /lib/systemd/system /usr/local/lib/systemd/system \
            /run/systemd/system /run/systemd/transient /run/systemd/generator /run/systemd/generator.late \
            /run/systemd/generator.early /etc/systemd/system.control /run/systemd/system.control \
            /sys/fs/cgroup/system.slice /sys/fs/cgroup/systemd/system.slice; do
            if [ -e "$R$dir/$unit" ] || [ -L "$R$dir/$unit" ]; then unit_found=1 && break; fi
        done
        if [ -n "$unit_found" ] || [ ! -d "$R/run/systemd/system" ]; then
            units_there="$units_there $unit"
        else
            units_missing="$units_missing$NL${NL}Id=$unit${NL}LoadState=not-found${NL}ActiveState=inactive"
        fi
    done
}

look_at_processes() { # in three steps, so that a tool runs once for all of them: find, ask, tell
    PIDS= DOCKERDS= CRIOS= NESTED=
    [ -d "$R/proc/1" ] || unseen 'processes of other users' '/proc hides them (hidepid)'
    proc_asked= proc_all=
    find_processes
    # shellcheck disable=SC2086  # pids
    ask_processes $proc_asked
    set -f
    IFS=$NL
    # shellcheck disable=SC2086  # one process a line
    set -- $proc_all
    IFS=$BLANKS
    set +f
    for proc; do tell_process "$proc"; done
}

find_processes() {
    proc_found=
    set -- "$R"/proc/[0-9]*/comm
    if [ $# -gt 200 ] && have grep; then # a shell reads thousands of files more slowly
        proc_found=$(grep -lE '^(containerd$|containerd[^-]|containerd-[^s]|dockerd|cri|k3s|rke2|k0s|kube|microshift)' \
            "$@" 2>/dev/null)
    fi
    if [ -n "$proc_found" ]; then
        set -f
        IFS=$NL
        # shellcheck disable=SC2086  # one path a line
        set -- $proc_found
        IFS=$BLANKS
        set +f
    else
        set -- "$R"/proc/[0-9]*
    fi
    for proc; do
        proc=${proc%/comm}
        first_line "$proc/comm" || first_line "$proc/cmdline" || continue
        case $LINE in
        containerd-shim* | */containerd-shim*) ;;
        containerd* | */containerd* | dockerd* | */dockerd* | crio* | */crio* | cri-dockerd* | k3s* | */k3s* | rke2* | \
            */rke2* | k0s* | */k0s* | kubelet* | */kubelet* | kubelite* | microshift* | kube-apiserver* | */kube-apiserver*)
            choose_process "$proc"
            ;;
        esac
    done
}

choose_process() { # folder below /proc; its name is in LINE. Only what root started is asked for its arguments
    proc_owner=0
    if [ -r "$1/status" ]; then
        while read -r proc_key proc_value proc_inner; do
            case $proc_key in
            Uid:) proc_owner=$proc_value ;;
            NSpid:)
                if [ -n "$proc_inner" ]; then # it runs in a container of this host
                    NESTED="$NESTED${1##*/} $LINE$NL"
                    return 0
                fi
                break
                ;;
            esac
        done <"$1/status"
    elif [ -z "$R" ]; then
        return 0
    fi
    proc_all="$proc_all${1##*/}:$proc_owner:$LINE$NL"
    if [ "$proc_owner" = 0 ]; then proc_asked="$proc_asked ${1##*/}"; fi
}

ask_processes() { # pid…: PROC_EXES and PROC_ARGUMENTS of all, each under the name of its file
    PROC_EXES= PROC_ARGUMENTS=
    [ $# -gt 0 ] || return 0
    for proc_pid; do
        shift
        set -- "$@" "$R/proc/$proc_pid/cmdline"
    done
    # of two files each is given a heading
    PROC_ARGUMENTS=$(head -c 65536 -- "$@" /dev/null 2>/dev/null | tr '\000' '\n')
    proc_links=
    for proc; do
        shift
        if [ -L "${proc%/*}/exe" ]; then set -- "$@" "${proc%/*}/exe"; fi
    done
    if [ $# -gt 0 ]; then PROC_EXES=$(ls -ld -- "$@" 2>/dev/null); fi
}

exe_of() { # pid → proc_exe, as the kernel spells it
    proc_exe=
    case $PROC_EXES in *"/proc/$1/exe -> "*) ;; *) return 0 ;; esac
    set -f
    IFS=$NL
    for line in $PROC_EXES; do
        case $line in *"/proc/$1/exe -> "*) proc_exe=${line#* -> } ;; esac
    done
    IFS=$BLANKS
    set +f
}

tell_process() { # pid:uid:name: emits it, and remembers what of it runs containers
    proc_pid=${1%%:*} proc_owner=${1#*:} proc_comm=${1#*:*:}
    proc_owner=${proc_owner%%:*}
    proc_text="comm=$proc_comm${NL}uid=$proc_owner$NL"
    if first_line "$R/proc/$proc_pid/stat"; then
        set -f
        # shellcheck disable=SC2086  # fields; the name before them may hold blanks and brackets
        set -- ${LINE##*) }
        set +f
        proc_text="${proc_text}ticks=${20-}$NL"
    fi
    exe_of "$proc_pid"
    if [ -n "$proc_exe" ]; then proc_text="${proc_text}exe=$proc_exe$NL"; fi
    proc_group=
    if slurp "$R/proc/$proc_pid/cgroup"; then proc_group=$TEXT; fi
    proc_words= proc_name= proc_config= proc_folder= proc_socket= proc_once=0
    set -f
    IFS=$NL
    for line in $proc_group; do proc_text="${proc_text}cgroup=$line$NL"; done
    read_arguments "$proc_pid"
    IFS=$BLANKS
    set +f
    emit "process:$proc_pid" 0 "$proc_text$proc_words"
    [ "$proc_owner" = 0 ] || return 0
    case $proc_group in *docker-[0-9a-f]*.scope* | */docker/[0-9a-f]* | *kubepods* | *libpod* | *crio-[0-9a-f]* | \
        *cri-containerd-[0-9a-f]*) return 0 ;; esac
    case ${proc_name##*/} in
    containerd | dockerd | crio) [ "$proc_once" = 0 ] || return 0 ;;
    esac
    case ${proc_name##*/} in
    containerd)
        proc_entry="$proc_exe|$proc_name|$proc_config|$proc_socket"
        # a child that was just forked looks like its parent
        case $PIDS in *" $proc_entry$NL"*) ;; *) PIDS="$PIDS$proc_pid $proc_entry$NL" ;; esac
        ;;
    dockerd) DOCKERDS="$DOCKERDS$proc_pid $proc_exe|${proc_config:-/etc/docker/daemon.json}$NL" ;;
    crio) CRIOS="$CRIOS$proc_pid $proc_exe|${proc_config:-/etc/crio/crio.conf}|${proc_folder:-/etc/crio/crio.conf.d}$NL" ;;
    k3s-server | k3s-agent | k3s) K3S=1 ;;
    esac
}

read_arguments() { # pid → proc_words, proc_name and the flags that matter; IFS is a newline
    arg_mine=0 flag=
    for arg in $PROC_ARGUMENTS; do
        case $arg in "==> $R/proc/$1/cmdline <==") arg_mine=1; continue ;; '==> '*' <==') arg_mine=0; continue ;; esac
        [ "$arg_mine" = 1 ] || continue
        if [ -z "$proc_words" ]; then
            proc_name=$arg
        else
            case $arg in # a question to the program and not the daemon
            config | publish | oci-hook | help | wipe | status | check | version | --help | -h | --version | -v) proc_once=1 ;;
            esac
        fi
        case $flag in
        --config | -c | --config-file) proc_config=$arg ;;
        --config-dir | -d) proc_folder=$arg ;;
        --address | -a) proc_socket=$arg ;;
        esac
        case $arg in
        --config=* | -c=* | --config-file=*) proc_config=${arg#*=} ;;
        --config-dir=* | -d=*) proc_folder=${arg#*=} ;;
        --address=* | -a=*) proc_socket=${arg#*=} ;;
        --token=* | --agent-token=*) arg="${arg%%=*}=hidden" ;;
        esac
        case $flag in --token | --agent-token | -t) arg=hidden ;; esac
        proc_words="${proc_words}arg=$arg$NL"
        flag=$arg
    done
}
