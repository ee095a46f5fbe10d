# Part of the probe: NVIDIA functions on the bus, and nvidia-smi.
# Not POSIX: nvidia-smi

look_at_pci() {
    pci=
    set --
    for dev in "$R"/sys/bus/pci/devices/*; do
        first_line "$dev/vendor" || continue
        pci_vendor=$LINE
        case $pci_vendor in
        0x10de) ;;
        0xffff) [ -e "$R/proc/driver/nvidia/gpus/${dev##*/}" ] || continue ;; # fallen off: the driver knows it as its own
        *) continue ;;
        esac
        if first_line "$dev/device" && [ -n "$LINE" ]; then pci_device=$LINE; else pci_device=-; fi
        if first_line "$dev/class" && [ -n "$LINE" ]; then pci_class=$LINE; else pci_class=-; fi
        pci_vf=0
        if [ -L "$dev/physfn" ] || [ -e "$dev/physfn" ]; then pci_vf=1; fi
        pci_more=
        [ "$pci_vendor" = 0x10de ] || pci_more=" vendor=$pci_vendor"
        case $pci_class in 0x0604*) ;; *) look_at_function ;; esac
        pci="$pci${dev##*/} $pci_device $pci_class $pci_vf$pci_more$NL"
        case "$pci_more " in *' driver='*) continue ;; esac
        if [ -L "$dev/driver" ]; then set -- "$@" "$dev/driver"; fi
    done
    if [ -d "$R/sys/bus/pci/devices" ]; then
        emit pci 0 "$pci"
    else
        unseen 'PCI devices' 'there is no /sys/bus/pci/devices'
    fi
    if [ $# -gt 0 ]; then emit pci-drivers 0 "$(ls -ld "$@")"; fi
}

look_at_function() { # more of $dev, as ` key=value`; the kernel has all of it in memory, except for the link's width
    pci_sub=
    if [ -r "$dev/uevent" ]; then
        while IFS='=' read -r pci_key pci_value; do
            case $pci_key in
            DRIVER) pci_more="$pci_more driver=$pci_value" ;;
            PCI_SUBSYS_ID) pci_sub=$pci_value ;;
            esac
        done <"$dev/uevent"
    fi
    if [ -z "$pci_sub" ] && first_line "$dev/subsystem_vendor"; then
        pci_sub=$LINE
        if first_line "$dev/subsystem_device"; then pci_sub="$pci_sub:$LINE"; fi
    fi
    [ -z "$pci_sub" ] || pci_more="$pci_more sub=$pci_sub"
    if first_line "$dev/numa_node"; then pci_more="$pci_more numa=$LINE"; fi
    if first_line "$dev/sriov_numvfs"; then pci_more="$pci_more vfs=$LINE"; fi
    if [ -d "$dev/mdev_supported_types" ]; then pci_more="$pci_more mdev=1"; fi
    LINE=
    first_line "$dev/power/runtime_status" || LINE=active
    case $LINE in suspend*) pci_more="$pci_more power=$LINE" ; return ;; esac # asleep: its registers are not to be read
    # a GPU that has fallen off the bus answers with ones only: 63 lanes
    if [ "$pci_vf" = 0 ] && first_line "$dev/current_link_width"; then pci_more="$pci_more width=$LINE"; fi
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
    flush
    smi_query
    emit smi-core "$STATUS" "$TEXT"
    [ "$STATUS" = 0 ] || [ "$STATUS" = 14 ] || return 0
    smi_took=$((smi_to - smi_from))
    emit smi-seconds 0 "$smi_took"
    [ -z "$smi_dropped" ] || unseen "nvidia-smi:$smi_dropped" 'this driver does not know the field'
    smi_answer=$TEXT
    case $smi_answer in
    *mig.mode.current*[0-9]', Enabled, '*)
        if [ "$smi_took" -gt 20 ]; then
            unseen 'MIG devices' "nvidia-smi took $smi_took s, so it was not asked a second time"
        else
            capture smi-list 30 nvidia-smi -L
        fi
        ;;
    esac
    smi_remapped
    smi_virtual=0
    case $smi_answer in *', GRID '* | *-*[0-9][ABCQ]', '* | *-*[0-9]CME', '*) smi_virtual=1 ;; esac
    if [ -e "$R/usr/bin/nvidia-gridd" ]; then smi_virtual=1; fi
    # the licence of a virtual GPU is told here only
    if [ "$smi_virtual" = 1 ] && [ "$smi_took" -le 20 ]; then capture smi-q 30 nvidia-smi -q; fi
}

smi_query() { # one call where the driver knows every field; where it does not, again without those (hosts.md 0 rule 3)
    # the first nine are known to every driver; a number stands before the mode of MIG, and before no other Enabled
    smi_least=index,uuid,name,pci.bus_id,pci.device_id,driver_version,memory.total,mig.mode.current,persistence_mode
    smi_core=$smi_least,mig.mode.pending,compute_mode,ecc.mode.current,ecc.errors.uncorrected.volatile.total
    smi_core=$smi_core,retired_pages.pending,pstate,temperature.gpu
    # by age: who does not know one of these does not know the ones behind it
    smi_young=compute_cap,fabric.state,fabric.status,addressing_mode,gpu_recovery_action
    smi_reset=reset_status.reset_required,reset_status.drain_and_reset_recommended
    smi_fields=$smi_core,${smi_young%,*},remapped_rows.pending,remapped_rows.failure,gpu_recovery_action
    smi_fields=$smi_fields,clocks_throttle_reasons.active
    smi_dropped='' smi_tries=0
    read -r smi_begun _ <"$R/proc/uptime" || smi_begun=0
    while :; do
        read -r smi_from _ <"$R/proc/uptime" || smi_from=0
        smi_ask "$smi_fields"
        read -r smi_to _ <"$R/proc/uptime" || smi_to=0
        smi_from=${smi_from%%.*} smi_to=${smi_to%%.*}
        smi_tries=$((smi_tries + 1))
        case $TEXT in *'Field "'*'" is not a valid field to query'*) ;; *) return 0 ;; esac
        [ "$smi_tries" -lt 6 ] || return 0
        smi_bad=${TEXT#*Field \"}
        smi_bad=${smi_bad%%\"*}
        if [ $((smi_to - ${smi_begun%%.*})) -gt 20 ]; then # too slow to try again and again
            [ "$smi_fields" != "$smi_least" ] || return 0
            smi_dropped=" all but the most needed fields"
            smi_fields=$smi_least
        else
            smi_narrow || return 0
        fi
    done
}

smi_ask() { # fields → TEXT, STATUS. What goes to standard error comes first, so that it cannot tear a row in two
    TEXT=$(
        exec 3>&1
        smi_out=$(limit 60 nvidia-smi --query-gpu="$1" --format=csv,nounits 2>&3 3>&- </dev/null)
        smi_status=$?
        printf '%s\n' "$smi_out"
        exit "$smi_status"
    )
    STATUS=$?
}

smi_narrow() { # drop $smi_bad and its like from $smi_fields; a field older than the young ones takes those along
    smi_family=$smi_bad.
    case $smi_bad in *.*) smi_family=${smi_bad%.*}. ;; esac
    smi_cut=0 smi_left=''
    case ,$smi_young,$smi_reset,remapped_rows.pending,remapped_rows.failure, in *,"$smi_bad",*) ;; *) smi_cut=1 ;; esac
    IFS=,
    for smi_field in $smi_fields; do
        smi_keep=1
        [ "$smi_field" != "$smi_bad" ] || smi_cut=1
        case ,$smi_young, in *,"$smi_field",*) [ "$smi_cut" = 0 ] || smi_keep=0 ;; esac
        case $smi_field in "$smi_bad" | "$smi_family"*) smi_keep=0 ;; esac
        if [ "$smi_keep" = 1 ]; then
            smi_left="$smi_left,$smi_field"
            continue
        fi
        case $smi_field in remapped_rows.* | gpu_recovery_action | reset_status.*) ;; # asked for in another way
        *) smi_dropped="$smi_dropped $smi_field" ;;
        esac
    done
    IFS=$BLANKS
    # drivers that know addressing_mode (535 to 570) say in two fields what newer ones say in one
    case $smi_bad:$smi_left, in
    remapped_rows.*,addressing_mode,* | gpu_recovery_action:*,addressing_mode,*) smi_left=$smi_left,$smi_reset ;;
    esac
    [ "$smi_fields" != "${smi_left#,}" ] || return 1
    smi_fields=${smi_left#,}
}

smi_remapped() { # before driver 580 a query of its own; only memory with ECC has such rows
    case $smi_fields in *remapped_rows.*) return 0 ;; esac
    case $smi_answer in *', Enabled, '[0-9]*) ;; *) return 0 ;; esac
    if [ "$smi_took" -gt 5 ]; then
        unseen 'repairs of GPU memory' "nvidia-smi took $smi_took s, so it was not asked a second time"
        return 0
    fi
    capture smi-remapped 30 nvidia-smi --query-remapped-rows=gpu_uuid,remapped_rows.pending,remapped_rows.failure \
        --format=csv
    [ "$STATUS" = 0 ] || [ "$STATUS" = 14 ] || unseen 'repairs of GPU memory' "nvidia-smi: ${TEXT%%"$NL"*}"
}
