# Part of the probe: distribution, kernel, boot, and the packages that the parts ask for.
# Not POSIX: dpkg-query rpm mokutil

look_at_system() {
    slurp "$R/etc/os-release" && [ -n "$TEXT" ] || slurp "$R/usr/lib/os-release" || :
    if [ -n "$TEXT" ]; then emit os-release 0 "$TEXT"; fi
    if [ -f "$R/etc/dgx-release" ] && [ -r "$R/etc/dgx-release" ]; then
        sys_text=
        while IFS= read -r line || [ -n "$line" ]; do
            case $line in *SERIAL*) ;; *) sys_text="$sys_text$line$NL" ;; esac # the serial number is private
        done <"$R/etc/dgx-release"
        emit dgx-release 0 "$sys_text"
    fi
    emit_file fastos-release "$R/etc/fastos-release"
    if [ -f "$R/etc/nv_tegra_release" ] && first_line "$R/etc/nv_tegra_release"; then emit tegra-release 0 "$LINE"; fi
    if first_line "$R/sys/devices/soc0/family"; then emit soc-family 0 "$LINE"; fi
    sys_uname=
    if first_line "$R/proc/sys/kernel/arch"; then # Linux 6.1 and later: no process is needed
        sys_uname=$LINE
        first_line "$R/proc/sys/kernel/osrelease" && sys_uname="$LINE $sys_uname" || sys_uname=
        first_line "$R/proc/sys/kernel/hostname" && sys_uname="$LINE${sys_uname:+ $sys_uname}" || sys_uname=
    fi
    case $sys_uname in *' '*' '*) ;; *) sys_uname=$(uname -n -r -m) ;; esac
    SYS_KERNEL=${sys_uname#* }
    SYS_KERNEL=${SYS_KERNEL%% *}
    emit uname 0 "$sys_uname"
    if first_line "$R/proc/sys/kernel/random/boot_id"; then emit boot-id 0 "$LINE"; fi
    if [ -r "$R/proc/meminfo" ]; then
        while read -r sys_key sys_value sys_unit; do
            if [ "$sys_key" = MemTotal: ]; then emit memory 0 "$sys_value $sys_unit"; break; fi
        done <"$R/proc/meminfo"
    fi
    look_at_marks
    look_at_secure_boot
}

look_at_marks() { # files whose mere presence says what kind of system this is
    marks=
    for mark in /run/ostree-booted /etc/NIXOS /usr/share/flatcar /etc/kairos-release /.dockerenv /run/.containerenv \
        /.bottlerocket /dev/dxg /usr/lib/wsl/lib/nvidia-smi /run/WSL /run/systemd/system /run/openrc /sys/kernel \
        /run/secrets/kubernetes.io /usr/bin/pveversion /etc/machine-config-daemon /sys/firmware/efi \
        /run/ostree/staged-deployment /etc/apt/sources.list.d/ubuntu-esm-infra.list \
        /etc/apt/sources.list.d/ubuntu-esm-infra.sources /etc/apt/auth.conf.d/90ubuntu-advantage \
        /usr/local/nvidia/toolkit /run/nvidia/validations \
        /sys/module/nouveau /sys/module/nova_core /proc/driver/nvidia-nvswitch/devices; do
        if [ -e "$R$mark" ]; then marks="$marks$mark$NL"; fi
    done
    if have transactional-update; then marks="${marks}transactional-update$NL"; fi
    emit marks 0 "$marks"
    if first_line "$R/run/systemd/container"; then emit container 0 "$LINE"; fi
    emit_file init-cgroup "$R/proc/1/cgroup"
    sys_mounts="$R/proc/self/mounts"
    [ -r "$sys_mounts" ] || sys_mounts="$R/proc/mounts"
    if [ -r "$sys_mounts" ]; then # a node's list is long: not read line by line, and only the upper paths are sent
        sys_name='/[A-Za-z0-9_.-]*'
        emit mounts 0 "$(sed -n -e '/ nsfs /d' \
            -e "s|^[^ ]* \($sys_name\($sys_name\)\{0,2\}\) \([^ ]*\) \(r[ow]\)[ ,].*|\1 \3 \4|p" "$sys_mounts")"
    fi
}

look_at_secure_boot() {
    if [ ! -d "$R/sys/firmware/efi" ]; then
        emit secure-boot 0 bios
        return
    fi
    boot_var="$R/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    if [ -r "$boot_var" ]; then
        emit secure-boot 0 "$(od -An -t u1 <"$boot_var")"
    elif have mokutil; then
        capture secure-boot 5 mokutil --sb-state
    else
        unseen 'secure boot' 'the EFI variable cannot be read and mokutil is not installed'
    fi
}

look_at_packages() { # what is installed of all that the parts ask for, in one question: lines `name version`
    if have dpkg-query && { [ -s "$R/var/lib/dpkg/status" ] || ! have rpm; }; then
        packages_of_dpkg
    elif have rpm; then
        packages_of_rpm
    elif [ -d "$R/var/lib/pacman/local" ]; then
        packages_of_pacman
    fi
}

packages_of_dpkg() { # also `packages-held` (apt-mark hold) and `packages-broken` (dpkg was interrupted)
    set -f
    # shellcheck disable=SC2016  # the format is dpkg's
    TEXT=$(dpkg-query -W -f '${db:Status-Want} ${db:Status-Status} ${Package} ${Version}\n' \
        nvidia-* libnvidia-* linux-modules-nvidia-* xserver-xorg-video-nvidia* cuda-drivers* cuda-compat* cuda-keyring \
        datacenter-gpu-manager* nvlsm libnvsdm* containerd containerd.io moby-containerd docker-ce docker.io \
        moby-engine podman cri-o \
        cri-o-* cri-dockerd runc moby-runc crun kubelet kubeadm k3s* rke2* dkms linux-headers-* \
        unattended-upgrades needrestart pve-manager 2>/dev/null </dev/null)
    STATUS=$?
    case $STATUS in
    0 | 1) ;; # 1: a pattern matched nothing
    *) unseen packages "dpkg-query ended with status $STATUS"; set +f; return 0 ;;
    esac
    pkg_found= pkg_held= pkg_broken=
    IFS=$NL
    for line in $TEXT; do
        pkg_want=${line%% *} pkg_rest=${line#* }
        pkg_state=${pkg_rest%% *} pkg_rest=${pkg_rest#* }
        case $pkg_state in
        not-installed | config-files) continue ;;
        installed | triggers-*) pkg_found="$pkg_found$pkg_rest$NL" ;;
        *) pkg_broken="$pkg_broken$pkg_rest $pkg_state$NL" ;;
        esac
        if [ "$pkg_want" = hold ]; then pkg_held="$pkg_held$pkg_rest$NL"; fi
    done
    IFS=$BLANKS
    set +f
    emit packages 0 "$pkg_found"
    emit packages-held 0 "$pkg_held"
    emit packages-broken 0 "$pkg_broken"
}

packages_of_rpm() { # by name: a pattern would make rpm read its whole database
    set -- nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container1 libnvidia-container-tools \
        nvidia-container-runtime nvidia-docker2 nvidia-driver nvidia-driver-cuda nvidia-driver-cuda-libs \
        nvidia-driver-libs nvidia-driver-common nvidia-kmod-common nvidia-open cuda-drivers cuda-drivers-fabricmanager \
        kmod-nvidia-open-dkms kmod-nvidia-latest-dkms kmod-nvidia-dkms kmod-nvidia-open kmod-nvidia akmod-nvidia \
        akmod-nvidia-open dkms-nvidia xorg-x11-drv-nvidia xorg-x11-drv-nvidia-cuda nvidia-persistenced nvidia-modprobe \
        nvidia-fabric-manager nvidia-fabricmanager nvidia-imex nvlsm libnvsdm libnvidia-nscq datacenter-gpu-manager \
        datacenter-gpu-manager-4-core containerd containerd.io moby-containerd moby-containerd-cc docker docker-ce \
        moby-engine podman cri-o cri-tools cri-dockerd runc crun kubelet kubeadm k3s-selinux rke2-common rke2-server \
        rke2-agent rke2-selinux container-selinux dkms dnf-automatic microshift "kernel-devel-${SYS_KERNEL:-none}"
    for pkg_series in G05 G06 G07; do
        set -- "$@" "nvidia-open-driver-$pkg_series-signed-kmp-default" "nvidia-open-driver-$pkg_series-kmp-default" \
            "nvidia-open-driver-$pkg_series-signed-cuda-kmp-default" "nvidia-driver-$pkg_series-kmp-default" \
            "nvidia-compute-$pkg_series" "nvidia-compute-utils-$pkg_series" "nvidia-gl-$pkg_series"
    done
    TEXT=$(limit 20 rpm -q --qf '+%{NAME} %{VERSION}-%{RELEASE}\n' "$@" 2>/dev/null </dev/null)
    STATUS=$?
    case $STATUS in # it counts what is not installed
    12[4-9] | 13?) unseen packages "rpm ended with status $STATUS"; return 0 ;;
    esac
    pkg_found=
    set -f
    IFS=$NL
    for line in $TEXT; do
        case $line in +*) pkg_found="$pkg_found${line#+}$NL" ;; esac
    done
    IFS=$BLANKS
    set +f
    emit packages 0 "$pkg_found"
}

packages_of_pacman() { # its database is one folder NAME-VERSION-RELEASE a package
    pkg_found=
    for pkg_path in "$R"/var/lib/pacman/local/*nvidia*/ "$R"/var/lib/pacman/local/containerd-*/ \
        "$R"/var/lib/pacman/local/docker-*/ "$R"/var/lib/pacman/local/runc-*/ "$R"/var/lib/pacman/local/crun-*/ \
        "$R"/var/lib/pacman/local/cri-o-*/ "$R"/var/lib/pacman/local/kubelet-*/ "$R"/var/lib/pacman/local/dkms-*/; do
        [ -d "$pkg_path" ] || continue
        pkg_path=${pkg_path%/}
        pkg_path=${pkg_path##*/}
        pkg_rest=${pkg_path%-*}
        pkg_found="$pkg_found${pkg_rest%-*} ${pkg_path#"${pkg_rest%-*}"-}$NL"
    done
    emit packages 0 "$pkg_found"
}
