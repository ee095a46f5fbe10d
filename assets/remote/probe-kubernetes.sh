# Part of the probe: the Kubernetes flavour.
# Not POSIX: k3s rke2 k0s kubelet

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
