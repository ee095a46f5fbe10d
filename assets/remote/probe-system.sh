# Part of the probe: distribution, kernel, boot, and the state of the machine.
# Not POSIX: mokutil

look_at_system() {
    emit_file os-release "$R/etc/os-release" || :
    [ -n "$TEXT" ] || emit_file os-release "$R/usr/lib/os-release"
    emit_file dgx-release "$R/etc/dgx-release"
    if first_line "$R/etc/nv_tegra_release"; then emit tegra-release 0 "$LINE"; fi
    emit uname 0 "$(uname -n -r -m)"
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
    for mark in /run/ostree-booted /etc/NIXOS /usr/share/flatcar /.dockerenv /run/.containerenv /.bottlerocket /dev/dxg \
        /usr/lib/wsl/lib/nvidia-smi /run/systemd/system /etc/machine-config-daemon /sys/firmware/efi \
        /usr/local/nvidia/toolkit /run/nvidia/validations /sys/module/nouveau /sys/module/nova_core \
        /proc/driver/nvidia-nvswitch/devices; do
        if [ -e "$R$mark" ]; then marks="$marks$mark$NL"; fi
    done
    if have transactional-update; then marks="${marks}transactional-update$NL"; fi
    sys_mounts="$R/proc/self/mounts"
    [ -r "$sys_mounts" ] || sys_mounts="$R/proc/mounts"
    if [ -r "$sys_mounts" ]; then
        while read -r _ sys_point _ sys_options _; do
            case $sys_point,$sys_options in
            /usr,ro | /usr,ro,*) marks="${marks}/usr is read-only$NL" ;;
            esac
        done <"$sys_mounts"
    fi
    emit marks 0 "$marks"
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

look_at_packages() { # the packages that several parts ask for, in one question
    :
}

look_at_machine() { # cgroup, clock, room on disks, pending reboot
    :
}

look_at_reach() { # registries and package sources, only when it was asked for
    :
}
