# Part of the probe: NVIDIA functions on the bus, the driver's versions, nvidia-smi, the container toolkit.
# Not POSIX: readlink modinfo nvidia-smi nvidia-ctk

look_at_pci() {
    pci=
    set --
    for dev in "$R"/sys/bus/pci/devices/*; do
        first_line "$dev/vendor" || continue
        [ "$LINE" = 0x10de ] || continue
        first_line "$dev/class" || continue
        pci_class=$LINE
        first_line "$dev/device" || continue
        pci_device=$LINE
        pci_vf=0
        if [ -L "$dev/physfn" ] || [ -e "$dev/physfn" ]; then pci_vf=1; fi
        pci="$pci${dev##*/} $pci_device $pci_class $pci_vf$NL"
        if [ -L "$dev/driver" ]; then set -- "$@" "$dev/driver"; fi
    done
    if [ -d "$R/sys/bus/pci/devices" ]; then emit pci 0 "$pci"; else unseen 'PCI devices' 'there is no /sys/bus/pci/devices'; fi
    if [ $# -gt 0 ]; then emit pci-drivers 0 "$(ls -ld "$@")"; fi
}

look_at_driver() {
    emit_file nvrm-version "$R/proc/driver/nvidia/version"
    for mod in nvidia nvidia_current; do
        if first_line "$R/sys/module/$mod/version"; then emit module-version 0 "$LINE"; break; fi
    done
    for info in "$R"/proc/driver/nvidia/gpus/*/information; do
        [ -r "$info" ] || continue
        slurp "$info"
        info=${info%/information}
        emit "gpu-information:${info##*/}" 0 "$TEXT"
    done
    libs=
    for lib in "$R"/usr/lib/*/libnvidia-ml.so.*.* "$R"/usr/lib64/libnvidia-ml.so.*.* "$R"/usr/lib/libnvidia-ml.so.*.* \
        "$R"/usr/lib/*/nvidia/current/libnvidia-ml.so.*.* "$R"/usr/lib/*/*/libnvidia-ml.so.*.* \
        "$R"/run/opengl-driver/lib/libnvidia-ml.so.*.* "$R"/run/nvidia/driver/usr/lib/*/libnvidia-ml.so.*.*; do
        if [ -e "$lib" ]; then libs="$libs${lib#"$R"}$NL"; fi
    done
    emit nvml-files 0 "$libs"
    look_at_modules
}

look_at_modules() { # the module on disk, for the running kernel and for the others that are installed
    kernels=
    for kernel in "$R"/lib/modules/*; do
        # a left-over directory has no modules.dep; a kernel that can boot has
        if [ -e "$kernel/modules.dep" ] || [ -e "$kernel/modules.dep.bin" ]; then kernels="$kernels${kernel##*/}$NL"; fi
    done
    emit kernels 0 "$kernels"
    if ! have modinfo; then
        unseen 'NVIDIA module on disk' 'modinfo is not installed'
        return
    fi
    capture modinfo 10 modinfo -F version nvidia
    if [ "$STATUS" = 0 ]; then capture modinfo-license 10 modinfo -F license nvidia; fi
    running=$(uname -r)
    tried=0
    for kernel in $kernels; do
        if [ "$kernel" = "$running" ] || [ "$tried" -ge 4 ]; then continue; fi
        tried=$((tried + 1))
        capture "modinfo-other:$kernel" 10 modinfo -k "$kernel" -F version nvidia
    done
}

look_at_nvidia_smi() { # last of all: it can take 30 s, or hang for ever on a lost GPU (hosts.md 4.6)
    if ! have nvidia-smi; then
        emit smi-missing 0 ''
        return
    fi
    if [ -z "$libs" ]; then
        TEXT=$(limit 10 nvidia-smi -h 2>/dev/null </dev/null)
        emit smi-help $? "${TEXT%%"$NL"*}" # its first line has the version, even without a driver
    fi
    emit smi-started 0 ''
    read -r smi_from _ <"$R/proc/uptime" || smi_from=0
    capture smi-core 60 nvidia-smi \
        --query-gpu=index,uuid,name,pci.bus_id,pci.device_id,driver_version,memory.total,mig.mode.current,persistence_mode \
        --format=csv,noheader,nounits
    [ "$STATUS" = 0 ] || [ "$STATUS" = 14 ] || return 0
    read -r smi_to _ <"$R/proc/uptime" || smi_to=0
    smi_took=$((${smi_to%%.*} - ${smi_from%%.*}))
    emit smi-seconds 0 "$smi_took"
    if [ "$smi_took" -gt 20 ]; then
        unseen 'compute capability' "nvidia-smi took $smi_took s, so it was not asked a second time"
        return
    fi
    smi_mig=$TEXT
    capture smi-more 30 nvidia-smi --query-gpu=uuid,compute_cap,addressing_mode,fabric.state --format=csv,noheader,nounits
    case $smi_mig in *', Enabled, '*) capture smi-list 30 nvidia-smi -L ;; esac
}

look_at_toolkit() {
    for dir in /usr/local/nvidia/toolkit /usr/bin /usr/local/bin /usr/sbin /opt/bin /run/current-system/sw/bin; do
        if [ -x "$R$dir/nvidia-container-runtime" ]; then emit toolkit-runtime 0 "$dir/nvidia-container-runtime"; break; fi
    done
    if have nvidia-ctk; then capture toolkit-version 10 nvidia-ctk --version; fi
    emit_file toolkit-config "$R/etc/nvidia-container-runtime/config.toml"
    specs=
    for spec in "$R"/etc/cdi/*.yaml "$R"/etc/cdi/*.json "$R"/var/run/cdi/*.yaml "$R"/var/run/cdi/*.json \
        "$R"/run/cdi/*.yaml "$R"/run/cdi/*.json; do
        if [ -f "$spec" ]; then specs="$specs${spec#"$R"}$NL"; fi
    done
    emit cdi-specs 0 "$specs"
}
