# Part of the probe: the state of the machine: cgroups, swap, disks, pending reboot, proxies, clock.
# Not POSIX: -

look_at_machine() { # cgroups, swap, SELinux, room on disks, pending reboot, proxies
    if [ -e "$R/sys/fs/cgroup/cgroup.controllers" ]; then
        emit cgroup 0 unified
    elif [ -d "$R/sys/fs/cgroup/unified" ]; then
        emit cgroup 0 hybrid
    elif [ -d "$R/sys/fs/cgroup/memory" ] || [ -d "$R/sys/fs/cgroup/systemd" ] || [ -d "$R/sys/fs/cgroup/cpu" ]; then
        emit cgroup 0 legacy
    fi
    emit_file swaps "$R/proc/swaps"
    if first_line "$R/sys/fs/selinux/enforce"; then
        emit selinux 0 "$LINE"
    elif [ ! -e "$R/sys/fs/selinux/enforce" ] && [ -d "$R/sys/kernel" ]; then
        emit selinux 0 none
    fi
    look_at_space
    look_at_reboot
    look_at_proxies
}

look_at_space() { # `df` names the file system below each path, in their order
    set --
    for path in / /etc /run /tmp /boot /usr /var /var/log /var/lib /var/lib/containerd /var/lib/docker \
        /var/lib/rancher /var/lib/kubelet /var/lib/containers /var/lib/k0s /var/snap /var/lib/gpuwizard; do
        if [ -d "$R$path" ]; then set -- "$@" "$R$path"; fi
    done
    have df || return 0
    space_text=$(limit 10 df -P -k "$@" 2>/dev/null </dev/null)
    STATUS=$?
    space_paths=
    for path; do
        path=${path#"$R"}
        space_paths="$space_paths${path:-/} "
    done
    emit space "$STATUS" "$space_paths$NL$space_text"
}

look_at_reboot() { # lines `needed:why`; `watched` where the distribution would leave a mark
    reboot_text=
    for path in /usr/share/update-notifier/notify-reboot-required /etc/kernel/postinst.d/unattended-upgrades \
        /etc/kernel/postinst.d/update-notifier; do
        if [ -e "$R$path" ]; then reboot_text="watched:$path$NL"; fi
    done
    if [ -e "$R/run/reboot-required" ]; then
        reboot_text="${reboot_text}needed:/run/reboot-required$NL"
        if slurp "$R/run/reboot-required.pkgs"; then emit reboot-packages 0 "$TEXT"; fi
    fi
    if first_line "$R/run/reboot-needed"; then reboot_text="${reboot_text}needed:/run/reboot-needed: $LINE$NL"; fi
    if [ -e "$R/run/ostree/staged-deployment" ]; then
        reboot_text="${reboot_text}needed:/run/ostree/staged-deployment$NL"
    fi
    emit reboot 0 "$reboot_text"
}

look_at_proxies() { # the lines that name a proxy, without logins
    for path in "$R"/etc/environment "$R"/etc/sysconfig/proxy "$R"/etc/systemd/system.conf \
        "$R"/etc/systemd/system.conf.d/*.conf "$R"/etc/apt/apt.conf "$R"/etc/apt/apt.conf.d/*[pP]rox* \
        "$R"/etc/dnf/dnf.conf "$R"/etc/yum.conf "$R"/etc/default/k3s* "$R"/etc/default/rke2* "$R"/etc/default/docker \
        "$R"/etc/default/containerd "$R"/etc/default/kubelet "$R"/etc/default/crio "$R"/etc/sysconfig/k3s* \
        "$R"/etc/sysconfig/rke2* "$R"/etc/sysconfig/docker "$R"/etc/sysconfig/containerd "$R"/etc/sysconfig/kubelet \
        "$R"/etc/sysconfig/crio "$R"/etc/systemd/system/k3s*.service.env "$R"/etc/systemd/system/rke2*.env \
        "$R"/usr/local/lib/systemd/system/rke2*.env "$R"/usr/lib/systemd/system/rke2*.env \
        "$R"/etc/systemd/system/*.service.d/*.conf "$R"/var/snap/microk8s/current/args/containerd-env; do
        [ -f "$path" ] && [ -r "$path" ] || continue
        case $path in
        */systemd/system/containerd.service.d/* | */docker.service.d/* | */crio.service.d/* | */kubelet.service.d/*) ;;
        */k3s*.service.d/* | */rke2*.service.d/* | */k0s*.service.d/* | */snap.k8s.* | */snap.microk8s.*) ;;
        *.service.d/*) continue ;;
        esac
        look_at_proxy "$path"
    done
}

look_at_proxy() { # file
    proxy_text=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        [\#\;]* | //* | *proxy_username* | *proxy_password*) continue ;;
        *[pP][rR][oO][xX][yY]*) ;;
        *) continue ;;
        esac
        if [ "$REACH" = 1 ]; then note_proxy "$1" "$line"; fi
        hide_login "$line"
        proxy_text="$proxy_text$LINE$NL"
    done <"$1"
    if [ -n "$proxy_text" ]; then emit "proxy:${1#"$R"}" 0 "$proxy_text"; fi
}

hide_login() { # line → LINE, with `hidden` for what stands before an `@`
    LINE= hide_rest=$1
    while :; do
        case $hide_rest in *@*) ;; *) break ;; esac
        hide_head=${hide_rest%%@*}
        hide_rest=${hide_rest#*@}
        case $hide_head in
        *://*) hide_head=${hide_head%://*}:// ;;
        *=*) hide_head=${hide_head%%=*}= ;;
        *) hide_head= ;;
        esac
        LINE="$LINE${hide_head}hidden@"
    done
    LINE=$LINE$hide_rest
}

look_at_clock() { # at the very end: its answer travels at once
    emit clock 0 "$(date +%s)"
}
