# Part of the probe: NVIDIA functions on the bus, and nvidia-smi.
# Not POSIX: nvidia-smi

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
