# Part of the probe: the driver's versions, its modules for every kernel, DKMS, the kernel log, the daemons beside it.
# Not POSIX: dmesg modinfo nv-fabricmanager readlink

look_at_driver() {
    emit_file nvrm-version "$R/proc/driver/nvidia/version"
    look_at_loaded
    for info in "$R"/proc/driver/nvidia/gpus/*/information; do
        [ -r "$info" ] || continue
        slurp "$info"
        info=${info%/information}
        emit "gpu-information:${info##*/}" 0 "$TEXT"
    done
    look_at_nodes
    look_at_libraries
    look_at_modules
}

look_at_loaded() { # the modules that are in the kernel; Debian may name them nvidia_current, nvidia_current_uvm
    drv_loaded=
    for mod in "$R"/sys/module/nvidia* "$R"/sys/module/nouveau "$R"/sys/module/nova_* "$R"/sys/module/nvgpu \
        "$R"/sys/module/vfio_pci "$R"/sys/module/nvgrace_gpu_vfio_pci "$R"/sys/module/mlx5_core "$R"/sys/module/ib_umad; do
        [ -d "$mod" ] || continue
        drv_name=${mod##*/}
        drv_loaded="$drv_loaded$drv_name$NL"
        case $drv_name in
        *_uvm | *_drm | *_modeset | *_peermem) ;;
        nvidia | nvidia_current* | nvidia_legacy* | nvidia_tesla*)
            if first_line "$mod/version"; then emit module-version 0 "$LINE"; fi
            ;;
        esac
    done
    if [ -d "$R/sys/module" ]; then emit driver-modules 0 "$drv_loaded"; fi
}

look_at_nodes() { # device nodes, and files whose mere presence tells where the driver came from
    drv_nodes=
    for node in "$R"/dev/nvidia* "$R"/dev/nvidia-caps-imex-channels/channel0; do
        if [ -e "$node" ]; then drv_nodes="$drv_nodes${node#"$R"/dev/}$NL"; fi
    done
    if [ -d "$R/dev" ]; then emit device-nodes 0 "$drv_nodes"; fi
    drv_marks=
    for mark in /usr/bin/nvidia-uninstall /run/nvidia/driver/usr /usr/bin/unattended-upgrade /usr/bin/nvidia-persistenced \
        /usr/sbin/dkms /etc/nvidia-imex/nodes_config.cfg /var/lib/kubelet/plugins/compute-domain.nvidia.com; do
        if [ -e "$R$mark" ]; then drv_marks="$drv_marks$mark$NL"; fi
    done
    emit driver-marks 0 "$drv_marks"
    look_at_signing
    if [ -r "$R/proc/devices" ]; then
        drv_imex=0
        while read -r _ drv_name; do
            if [ "$drv_name" = nvidia-caps-imex-channels ]; then drv_imex=1; break; fi
        done <"$R/proc/devices"
        emit imex-channels 0 "$drv_imex"
    fi
}

look_at_signing() { # what the kernel was told about modules: on its command line, and on signatures
    drv_words=
    if first_line "$R/proc/cmdline"; then
        set -f
        for drv_word in $LINE; do
            case $drv_word in
            *blacklist=* | nouveau.* | nvidia.* | nvidia[-_]drm.* | nova* | nomodeset | lockdown=* | module.sig_enforce*)
                drv_words="$drv_words$drv_word$NL"
                ;;
            esac
        done
        set +f
    fi
    if first_line "$R/sys/module/module/parameters/sig_enforce"; then drv_words="${drv_words}sig_enforce:$LINE$NL"; fi
    if first_line "$R/sys/kernel/security/lockdown"; then drv_words="${drv_words}lockdown:$LINE$NL"; fi
    emit module-loading 0 "$drv_words"
}

look_at_libraries() { # the file's name carries the version; with several of them the link says which one counts
    libs=
    set --
    for lib in "$R"/usr/lib/*/libnvidia-ml.so.*.* "$R"/usr/lib64/libnvidia-ml.so.*.* "$R"/usr/lib/libnvidia-ml.so.*.* \
        "$R"/usr/lib/*/*/libnvidia-ml.so.*.* "$R"/usr/lib/*/nvidia/*/libnvidia-ml.so.*.* \
        "$R"/usr/local/lib/libnvidia-ml.so.*.* "$R"/usr/local/lib64/libnvidia-ml.so.*.* \
        "$R"/usr/local/nvidia/lib/libnvidia-ml.so.*.* "$R"/usr/local/nvidia/lib64/libnvidia-ml.so.*.* \
        "$R"/home/kubernetes/bin/nvidia/lib64/libnvidia-ml.so.*.* "$R"/run/opengl-driver/lib/libnvidia-ml.so.*.* \
        "$R"/run/nvidia/driver/usr/lib/*/libnvidia-ml.so.*.* "$R"/run/nvidia/driver/usr/lib64/libnvidia-ml.so.*.*; do
        case $lib in *'*'* | */i386-linux-gnu/*) continue ;; esac
        if [ -e "$lib" ]; then
            libs="$libs${lib#"$R"}$NL"
            set -- "$@" "$lib"
        fi
    done
    emit nvml-files 0 "$libs"
    [ $# -gt 1 ] || return 0
    for lib in "$R"/usr/lib/*-linux-gnu/libnvidia-ml.so.1 "$R"/usr/lib64/libnvidia-ml.so.1 "$R"/usr/lib/libnvidia-ml.so.1; do
        case $lib in */i386-linux-gnu/*) continue ;; esac
        [ -e "$lib" ] || continue
        LINE=$(readlink -f "$lib" 2>/dev/null)
        emit nvml-link 0 "${LINE#"$ROOT_PATH"}"
        return 0
    done
}

newer_kernel() { # a b: true when the first number in which the two releases differ is greater in a
    IFS='-.+_~'
    set -f
    # shellcheck disable=SC2086  # split on purpose
    set -- $1 / $2
    set +f
    IFS=$BLANKS
    krn_fields=
    while [ $# -gt 0 ] && [ "$1" != / ]; do
        krn_fields="$krn_fields$1 "
        shift
    done
    [ $# = 0 ] || shift
    for krn_one in $krn_fields; do
        [ $# -gt 0 ] || return 1
        case $krn_one,$1 in *[!0-9,]* | ,* | *, | ??????????*,* | *,??????????*) return 1 ;; esac
        if [ "$krn_one" -ne "$1" ]; then
            [ "$krn_one" -gt "$1" ]
            return
        fi
        shift
    done
    return 1
}

look_at_kernels() { # every kernel that is installed, the running and the newest one
    if first_line "$R/proc/sys/kernel/osrelease"; then running=$LINE; else running=$(uname -r); fi
    newest=$running kernels=
    for kernel in "$R"/lib/modules/*; do
        # a left-over directory has no modules.dep; a kernel that can boot has
        [ -e "$kernel/modules.dep" ] || [ -e "$kernel/modules.dep.bin" ] || continue
        krn=${kernel##*/}
        krn_headers=0 krn_image=0
        if [ -e "$kernel/build/Makefile" ] || [ -e "$kernel/build/include" ]; then krn_headers=1; fi
        for image in "$R/boot/vmlinuz-$krn" "$R/boot/vmlinux-$krn" "$R/boot/Image-$krn" "$R/boot/kernel-$krn" \
            "$kernel/vmlinuz" "$kernel/vmlinux" "$R"/boot/*/"$krn"/linux "$R"/boot/efi/*/"$krn"/linux "$R"/efi/*/"$krn"/linux; do
            if [ -e "$image" ]; then krn_image=1; break; fi
        done
        krn_listed=0
        if [ -r "$kernel/modules.dep" ]; then krn_listed=1; fi
        kernels="$kernels$krn headers=$krn_headers image=$krn_image listed=$krn_listed$NL"
        if [ "$krn_image" = 1 ] && newer_kernel "$krn" "$newest"; then newest=$krn; fi
    done
    emit kernels 0 "$kernels"
}

look_at_modules() { # which kernels have the module, and of which version it is for the running and the newest one
    look_at_kernels
    [ -n "$kernels" ] || unseen 'NVIDIA module on disk' 'there is no kernel below /lib/modules'
    set --
    for file in "$R"/lib/modules/*/modules.dep "$R"/etc/modprobe.d/*.conf "$R"/run/modprobe.d/*.conf \
        "$R"/usr/lib/modprobe.d/*.conf "$R"/etc/apt/apt.conf.d/*unattended-upgrades* "$R"/etc/apt/apt.conf.d/*auto-upgrades*; do
        if [ -r "$file" ]; then set -- "$@" "$file"; fi
    done
    [ $# -gt 0 ] || return 0
    if ! have grep; then
        unseen 'NVIDIA module on disk' 'grep is not installed'
        return 0
    fi
    drv_dep='^[^:]*/nvidia([-_]current|[-_]tesla[-_0-9]*|[-_]legacy[-_0-9x]*)?([-_]open)?\.ko[.a-z0-9]*:'
    drv_block='^[[:blank:]]*(blacklist|install)[[:blank:]]+(nvidia|nouveau|nova_core)([[:blank:]]|$)'
    drv_apt='^[[:blank:]]*(APT::Periodic::Unattended-Upgrade[[:blank:]]|"[^"]*nvidia)'
    TEXT=$(grep -E "$drv_dep|$drv_block|$drv_apt" "$@" /dev/null 2>&1)
    emit driver-files $? "$TEXT"
    set --
    set -f
    IFS=$NL
    for line in $TEXT; do
        drv_file=${line%%:*}
        case $drv_file in
        */lib/modules/"$running"/modules.dep | */lib/modules/"$newest"/modules.dep)
            line=${line#*:}
            line=${line%%:*}
            case $line in /*) set -- "$@" "$R$line" ;; *) set -- "$@" "${drv_file%/*}/$line" ;; esac
            ;;
        esac
    done
    IFS=$BLANKS
    set +f
    [ $# -gt 0 ] || return 0
    if have modinfo; then
        TEXT=$(modinfo "$@" 2>&1 </dev/null | sed -n -e '/^filename:/p' -e '/^version:/p' -e '/^license:/p' \
            -e '/^signer:/p' -e '/^sig_id:/p' -e '/^modinfo:/p')
        emit modinfo 0 "$TEXT"
    else
        unseen 'version of the NVIDIA module on disk' 'modinfo is not installed'
    fi
}

look_at_companions() { # DKMS, kernel log, fabric manager
    look_at_dkms
    look_at_kernel_log
    look_at_fabric
}

look_at_dkms() { # what `dkms status` says, read from DKMS' own tree: the program itself is slow
    dkm=
    set --
    for dir in "$R"/var/lib/dkms/nvidia*/*; do
        dkm_name=${dir%/*}
        dkm_name=${dkm_name##*/}
        dkm_version=${dir##*/}
        case $dkm_name in nvidia-fs | nvidia-peer* | nvidia_peer*) continue ;; esac
        case $dkm_version in
        kernel-*)
            if [ -L "$dir" ]; then set -- "$@" "$dir"; fi
            continue
            ;;
        [0-9]*) [ -d "$dir" ] || continue ;;
        *) continue ;;
        esac
        dkm_state=added
        if [ -L "$dir/source" ] && [ ! -e "$dir/source" ]; then dkm_state=broken; fi
        dkm="$dkm$dkm_name $dkm_version - - $dkm_state$NL"
        for built in "$dir"/*/*/module; do
            [ -d "$built" ] || continue
            built=${built%/module}
            dkm_arch=${built##*/}
            built=${built%/*}
            case ${built##*/} in build | source) continue ;; esac
            dkm="$dkm$dkm_name $dkm_version ${built##*/} $dkm_arch built$NL"
        done
        if first_line "$dir/build/make.log"; then # only left where a build failed, or is under way
            TEXT=$(grep -m 8 -E '[Ee]rror|\*\*\*|FATAL|No such file|not found' "$dir/build/make.log" 2>/dev/null)
            emit "dkms-log:$dkm_name/$dkm_version" 0 "$LINE$NL$TEXT"
        fi
    done
    [ -n "$dkm" ] || return 0
    emit dkms 0 "$dkm"
    if [ $# -gt 0 ]; then emit dkms-links 0 "$(ls -ld "$@")"; fi
}

look_at_kernel_log() { # telling lines of the ring buffer: how often, when last (seconds since boot), and the line
    if ! have dmesg || ! have awk; then
        unseen 'kernel log' 'dmesg or awk is not installed'
        return
    fi
    first_line "$R/proc/sys/kernel/dmesg_restrict" || LINE=
    if [ "$ROOT" = 0 ] && [ "$LINE" != 0 ]; then
        unseen 'kernel log' 'only root may read it'
        return
    fi
    first_line "$R/proc/uptime" || LINE=
    # shellcheck disable=SC2016  # awk's own variables
    TEXT=$(dmesg 2>&1 </dev/null | awk '
        /^dmesg: / { print; exit }
        /NVRM: (loading|GPU at |Persistence mode is|.*nvAssert|.*nvCheck|.*Clearing it|objClInit|nvidia_open)/ { next }
        /NVRM:|SXid|nvidia.*(version magic|disagrees|Unknown symbol|firmware|failed|rejected|BAR)|nouveau.*(failed|bound)|[Ll]ockdown:.*modul|[Uu]nsigned module|unavailable key|Key was rejected|Required key not|PKCS#7 signature/ {
            at = ""; text = $0
            if (match(text, /^\[ *[0-9]+\.[0-9]+\](\[[^]]*\])? /)) {
                at = substr(text, 2); sub(/\].*/, "", at); gsub(/ /, "", at)
                text = substr(text, RLENGTH + 1)
            }
            text = substr(text, 1, 300); key = text
            if (match(key, /S?Xid \(PCI:[^)]*\): [0-9]+/)) key = substr(key, RSTART, RLENGTH)
            if (!(key in count)) { if (kept >= 400 && key !~ /^S?Xid/) next; order[++kept] = key }
            count[key]++; last[key] = at; line[key] = text
        }
        END {
            for (i = 1; i <= kept; i++) if (i > kept - 80 || order[i] ~ /^S?Xid/)
                print count[order[i]], (last[order[i]] == "" ? "-" : last[order[i]]), line[order[i]]
        }')
    case $TEXT in
    'dmesg: '*) unseen 'kernel log' "${TEXT%%"$NL"*}" ;;
    *) emit kernel-log 0 "${LINE%% *}$NL$TEXT" ;;
    esac
}

look_at_fabric() { # NVSwitch: the fabric manager's version; NVLink 5 hides its switches behind InfiniBand functions
    drv_fabric=0
    case ${pci-} in *' 0x0680'*) drv_fabric=1 ;; esac
    case ${pci-} in
    *' 0x2901 '* | *' 0x3182 '*)
        if [ "$ROOT" = 1 ]; then
            set --
            for vpd in "$R"/sys/class/infiniband/*/device/vpd; do
                if [ -r "$vpd" ]; then set -- "$@" "$vpd"; fi
            done
            if [ $# -gt 0 ]; then capture nvlink5 10 grep -l SW_MNG "$@"; else TEXT= && emit nvlink5 1 ''; fi
            if [ -n "$TEXT" ]; then drv_fabric=1; fi
        else
            unseen 'NVSwitches of NVLink 5' 'only root may read the vital product data of InfiniBand functions'
        fi
        ;;
    esac
    if [ "$drv_fabric" = 1 ] && have nv-fabricmanager; then
        capture fabric-manager-version 5 nv-fabricmanager --version
        if [ "$ROOT" = 1 ] && [ -r "$R/var/log/fabricmanager.log" ]; then
            capture fabric-manager-log 5 tail -n 12 "$R/var/log/fabricmanager.log"
        fi
    fi
}
