# Part of the probe: the Kubernetes flavours.
# Not POSIX: k3s rke2 k0s kubelet microshift readlink

look_at_kubernetes() {
    RANCHER_PID='' KUBE_MARKS='' KUBE_READ=''
    look_at_kube_programs
    case $K3S,$K3S_DATA in 0,) ;; *) look_at_rancher_flavour k3s "$K3S_DATA" ;; esac
    if [ "$RKE2" = 1 ]; then look_at_rancher_flavour rke2 ''; fi
    look_at_service_path
    look_at_k0s
    look_at_snaps
    look_at_kubelet
    look_at_nested_nodes
    look_at_microshift
    emit_file kind-version "$R/kind/version"
    look_at_kube_marks
}

look_at_kube_programs() { # one question to a program at most: the version, where no file tells it
    RKE2=0 kube_programs=''
    for program in k3s rke2 k0s kubelet microshift; do
        if have "$program"; then kube_programs="$kube_programs$program "; fi
    done
    emit kubernetes-programs 0 "$kube_programs"
    case " $kube_programs" in
    *' k3s '*)
        K3S=1
        capture k3s-version 10 k3s --version
        ;;
    esac
    if [ -e "$R/var/lib/rancher/k3s" ] || [ -e "$R/etc/rancher/k3s" ]; then K3S=1; fi
    case " $kube_programs" in *' rke2 '*) RKE2=1 ;; esac
    if [ -e "$R/var/lib/rancher/rke2" ] || [ -e "$R/etc/rancher/rke2" ]; then RKE2=1; fi
    case " $kube_programs" in *' k0s '*) capture k0s-version 10 k0s version ;; esac
    case " $kube_programs$NL${pkg_found-}" in
    *"${NL}kubelet "*) ;; # its package says it
    *' kubelet '*) if ! is_openshift; then capture kubelet-version 10 kubelet --version; fi ;;
    esac
}

is_openshift() {
    [ -e "$R/etc/machine-config-daemon" ]
}

look_at_rancher_flavour() { # k3s or rke2, and the data folders of containerds of it that run
    rancher=$1 rancher_data='' rancher_config=/etc/rancher/$1/config.yaml
    add_file "/etc/rancher/$rancher/config.yaml.d/50-gpuwizard.yaml"
    if first_line "$R/etc/rancher/node/id"; then emit node-id 0 "$LINE"; fi
    read_service_environment
    read_rancher_units
    add_file "$rancher_config"
    for file in "$R$rancher_config".d/*.yaml "$R$rancher_config".d/*.yml; do add_existing "$file"; done
    read_rancher_config
    set -f
    IFS=$NL
    [ -n "$2$rancher_data" ] || rancher_data=/var/lib/rancher/$rancher
    # shellcheck disable=SC2086  # one folder a line
    set -- $2 $rancher_data
    IFS=$BLANKS
    set +f
    for data; do look_at_rancher_data "$data"; done
    for dir in /usr/local/nvidia/toolkit /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /opt/bin; do
        add_time "$dir/nvidia-container-runtime"
    done
    if [ "$rancher" = rke2 ] && [ -L "$R/var/lib/rancher/rke2/bin" ]; then
        emit rke2-runtime 0 "$(readlink "$R/var/lib/rancher/rke2/bin")/"
    elif [ "$rancher" = rke2 ] && have rke2; then
        capture rke2-version 10 rke2 --version
    fi
}

look_at_rancher_data() { # data folder: the rendered file, templates and drop-ins, and what the kubelet is given
    case $1 in /*) ;; *) return 0 ;; esac
    ra_etc=$1/agent/etc
    for file in config.toml config.toml.tmpl config-v3.toml.tmpl; do add_file "$ra_etc/containerd/$file"; done
    for file in "$R$ra_etc"/containerd/config.toml.d/*.toml "$R$ra_etc"/containerd/config-v3.toml.d/*.toml; do
        add_existing "$file"
    done
    for file in "$R$ra_etc"/kubelet.conf.d/*.conf; do kubelet_config "${file#"$R"}"; done
    for file in server server/db/etcd server/manifests/runtimes.yaml; do
        if [ -e "$R$1/$file" ]; then KUBE_MARKS="$KUBE_MARKS$1/$file$NL"; fi
    done
}

read_service_environment() { # the environment files of its services: the lines that matter, never the token
    for file in "$R/etc/default/$rancher"* "$R/etc/sysconfig/$rancher"* \
        "$R/etc/systemd/system/$rancher"*.env "$R/usr/local/lib/systemd/system/$rancher"*.env \
        "$R/usr/lib/systemd/system/$rancher"*.env; do
        [ -f "$file" ] || continue
        [ -r "$file" ] || continue
        env_text=
        while IFS= read -r line || [ -n "$line" ]; do
            case $line in
            PATH=* | *_DATA_DIR=* | *_NODE_NAME=* | *_CONFIG_FILE=* | *_KUBECONFIG_OUTPUT=*) env_text="$env_text$line$NL" ;;
            esac
            case $line in
            *_DATA_DIR=*) add_data_dir "${line#*=}" ;;
            *_CONFIG_FILE=*) name_config "${line#*=}" ;;
            esac
        done <"$file"
        emit "service-environment:${file#"$R"}" 0 "$env_text"
    done
}

add_data_dir() { # text that may be quoted
    data_dir=$1
    case $data_dir in [\"\']*) data_dir=${data_dir#?} data_dir=${data_dir%[\"\']} ;; esac
    case $data_dir in
    *[*?[]* | *..*) ;;
    /*) rancher_data="$rancher_data${data_dir%/}$NL" ;;
    esac
}

name_config() { # text that may be quoted: the configuration file in place of the usual one
    conf_file=$1
    case $conf_file in [\"\']*) conf_file=${conf_file#?} conf_file=${conf_file%[\"\']} ;; esac
    case $conf_file in *[*?[]*) ;; /*) rancher_config=$conf_file ;; esac
}

read_rancher_units() { # its main process and the data folder on its command line, out of what systemctl printed
    unit_rest=${UNITS-}
    while [ -n "$unit_rest" ]; do
        unit_block=${unit_rest%%"$NL$NL"*}
        case $unit_rest in *"$NL$NL"*) unit_rest=${unit_rest#*"$NL$NL"} ;; *) unit_rest= ;; esac
        case "$NL$unit_block$NL" in *"${NL}Id=$rancher.service$NL"* | *"${NL}Id=$rancher-"*) ;; *) continue ;; esac
        case $unit_block in
        *MainPID=[1-9]*)
            unit_pid=${unit_block#*MainPID=}
            RANCHER_PID=${unit_pid%%"$NL"*}
            ;;
        esac
        case $unit_block in *argv\[\]=*) ;; *) continue ;; esac
        unit_words=${unit_block#*argv\[\]=}
        unit_words=${unit_words%%" ; "*}
        unit_flag=
        set -f
        for word in $unit_words; do
            case $unit_flag in
            --data-dir | -d) add_data_dir "$word" ;;
            --config | -c) name_config "$word" ;;
            esac
            case $word in
            --data-dir=* | -d=*) add_data_dir "${word#*=}" ;;
            --config=* | -c=*) name_config "${word#*=}" ;;
            esac
            unit_flag=$word
        done
        set +f
    done
}

read_rancher_config() { # the data folder in its configuration
    for file in "$R$rancher_config" "$R$rancher_config".d/*.y*ml; do
        [ -f "$file" ] || continue
        [ -r "$file" ] || continue
        while read -r yaml_key yaml_value _ || [ -n "$yaml_key" ]; do
            case $yaml_key in data-dir: | \"data-dir\": | \'data-dir\':) add_data_dir "$yaml_value" ;; esac
        done <"$file"
    done
}

look_at_service_path() { # where a running K3s or RKE2 looks for programs: of its environment PATH alone
    case $RANCHER_PID in '' | *[!0-9]*) return 0 ;; esac
    [ -r "$R/proc/$RANCHER_PID/environ" ] || return 0
    set -f
    IFS=$NL
    for line in $(tr '\000' '\n' <"$R/proc/$RANCHER_PID/environ" 2>/dev/null); do
        case $line in PATH=*) emit service-path 0 "${line#PATH=}" ;; esac
    done
    IFS=$BLANKS
    set +f
}

look_at_k0s() {
    case " $kube_programs" in *' k0s '*) ;; *) [ -e "$R/etc/k0s" ] || return 0 ;; esac
    add_file /etc/k0s/containerd.toml
    add_file /etc/k0s/containerd.d/99-gpuwizard-nvidia.toml
    for file in "$R"/etc/k0s/containerd.d/*.toml; do add_existing "$file"; done
}

look_at_snaps() {
    for snap in k8s microk8s; do
        [ -r "$R/snap/$snap/current/meta/snap.yaml" ] || continue
        while read -r snap_key snap_value; do
            if [ "$snap_key" = version: ]; then emit "snap:$snap" 0 "$snap_value"; break; fi
        done <"$R/snap/$snap/current/meta/snap.yaml"
    done
    snap_args=/var/snap/k8s/common/args
    if [ -e "$R/var/snap/k8s" ] || [ -e "$R/snap/k8s" ]; then
        for file in kubelet containerd; do emit_file "kubelet-flags:$snap_args/$file" "$R$snap_args/$file"; done
        file="$R/var/snap/k8s/common/lock/.containerd-base-dir"
        if [ -r "$file" ]; then
            first_line "$file" || :
            emit k8s-base-dir 0 "$LINE"
        fi
        look_at_snap_containerd
    fi
    snap_args=/var/snap/microk8s/current/args
    if [ -e "$R/var/snap/microk8s" ] || [ -e "$R/snap/microk8s" ]; then
        for file in kubelet containerd; do emit_file "kubelet-flags:$snap_args/$file" "$R$snap_args/$file"; done
        add_file "$snap_args/containerd-template.toml"
        add_file "$snap_args/containerd.toml"
        walk_imports "$snap_args/containerd.toml"
    fi
}

look_at_snap_containerd() { # the file that the arguments name, what it imports, and the folder beside it
    slurp "$R$snap_args/containerd" || return 0
    snap_config=
    set -f
    for word in $TEXT; do
        case $word in --config=*) snap_config=${word#*=} ;; /*) [ "${snap_flag-}" != --config ] || snap_config=$word ;; esac
        snap_flag=$word
    done
    set +f
    case $snap_config in [\"\']*) snap_config=${snap_config#?} snap_config=${snap_config%[\"\']} ;; esac
    case $snap_config in *[*?[]*) return 0 ;; /*) ;; *) return 0 ;; esac
    add_file "$snap_config"
    walk_imports "$snap_config"
    for file in "$R${snap_config%/*}"/conf.d/*.toml; do add_existing "$file"; done
    add_file "${snap_config%/*}/conf.d/99-gpuwizard-nvidia.toml"
}

look_at_microshift() {
    [ -e "$R/etc/microshift" ] || return 0
    emit_file microshift-version "$R/var/lib/microshift/version"
    shift_text=
    for file in "$R"/etc/microshift/config.yaml "$R"/etc/microshift/config.d/*.yaml; do
        [ -f "$file" ] || continue
        [ -r "$file" ] || continue
        while IFS= read -r line || [ -n "$line" ]; do
            case $line in *hostnameOverride:*) shift_text="$shift_text$line$NL" ;; esac
        done <"$file"
    done
    emit microshift-config 0 "$shift_text"
}

look_at_kubelet() {
    for file in /var/lib/kubelet/kubeadm-flags.env /etc/default/kubelet /etc/sysconfig/kubelet; do
        emit_file "kubelet-flags:$file" "$R$file"
    done
    kube_configs=
    for file in /var/lib/kubelet/instance-config.yaml /var/lib/kubelet/config.yaml /run/k0s/kubelet/config.yaml \
        /var/lib/k0s/kubelet-config.yaml; do
        kube_configs="$kube_configs$file$NL"
    done
    if is_openshift; then kube_configs="$kube_configs/etc/kubernetes/kubelet.conf$NL"; fi
    set -f
    IFS=$NL
    for word in ${PROC_ARGUMENTS-}; do # what the kubelet itself was told to read
        case $word in
        *' '* | *[*?[]*) ;;
        --config=/*kubelet*) kube_configs="$kube_configs${word#*=}$NL" ;;
        --config-dir=/*kubelet*)
            set +f
            for file in "$R${word#*=}"/*.conf; do kube_configs="$kube_configs${file#"$R"}$NL"; done
            set -f
            ;;
        esac
    done
    # shellcheck disable=SC2086  # one path a line
    set -- $kube_configs
    IFS=$BLANKS
    set +f
    for file; do kubelet_config "$file"; done
}

kubelet_config() { # path: of YAML or JSON the settings that matter
    case "$NL$KUBE_READ" in *"$NL$1$NL"*) return 0 ;; esac
    [ -f "$R$1" ] || return 0
    [ -r "$R$1" ] || return 0
    KUBE_READ="$KUBE_READ$1$NL" kube_text=
    while read -r line || [ -n "$line" ]; do
        case $line in \#*) continue ;; esac
        for kube_key in cgroupDriver containerRuntimeEndpoint failSwapOn failCgroupV1; do
            case $line in
            *"$kube_key"*:*)
                kube_value=${line#*"$kube_key"}
                kube_value=${kube_value#*:}
                kube_value=${kube_value%%[,#\}]*}
                kube_text="$kube_text$kube_key:$kube_value$NL"
                ;;
            esac
        done
    done <"$R$1"
    emit "kubelet-config:$1" 0 "$kube_text"
}

look_at_nested_nodes() { # kubelets in containers of this host: the kernel's copy of their command line says whose
    nested_text=
    set -f
    IFS=$NL
    for line in ${NESTED-}; do
        case $line in *' kubelet'*) ;; *) continue ;; esac
        first_line "$R/proc/${line%% *}/cmdline" 2>/dev/null || continue
        case $LINE in # its parts are separated by what a shell leaves out
        *--provider-id=kind://*)
            LINE=${LINE#*--provider-id=kind://}
            nested_text="${nested_text}kind ${LINE%%--*}$NL"
            ;;
        /var/lib/minikube/*)
            LINE=${LINE#*--hostname-override=}
            nested_text="${nested_text}minikube ${LINE%%--*}$NL"
            ;;
        esac
    done
    IFS=$BLANKS
    set +f
    emit nested-nodes 0 "$nested_text"
}

look_at_kube_marks() {
    marks=$KUBE_MARKS
    for file in /etc/kubernetes/kubelet.conf /etc/kubernetes/manifests/kube-apiserver.yaml \
        /etc/kubernetes/manifests/kube-apiserver-pod.yaml /var/lib/kubelet/config.yaml \
        /etc/rancher/k3s /var/lib/rancher/k3s /var/lib/rancher/k3s/server /usr/local/bin/k3s /etc/rancher/rke2 \
        /var/lib/rancher/rke2 /var/lib/rancher/rke2/server /etc/k0s /var/lib/k0s /snap/k8s /snap/microk8s \
        /var/snap/k8s/common/lock /var/snap/k8s/common/lock/worker /var/snap/microk8s/current/var/lock \
        /var/snap/microk8s/current/var/lock/clustered.lock /etc/microshift /kind/version /kind/product_name /kic.txt \
        /run/containerd/containerd.sock /var/run/crio/crio.sock /run/crio/crio.sock; do
        if [ -e "$R$file" ]; then marks="$marks$file$NL"; fi
    done
    emit kubernetes-marks 0 "$marks"
}
