# One look at a host: prints framed sections `@@ name[:key] status bytes`, changes nothing. $1: how root was had, $2: why not.
# The other parts (probe-gpus.sh, probe-runtimes.sh, probe-files.sh) travel in the same text.
# Not POSIX: timeout mokutil readlink

emit() { # name status text
    printf '@@ %s %s %s\n%s\n' "$1" "$2" "${#3}" "$3"
}

unseen() { # what why
    UNSEEN="$UNSEEN$1|$2$NL"
}

have() {
    command -v "$1" >/dev/null 2>&1
}

limit() { # seconds command…: only inside $( ), because it replaces the subshell
    if [ "$TIMEOUT" = 1 ]; then exec timeout "$@"; fi
    shift
    exec "$@"
}

capture() { # section seconds command…: its whole output, errors included
    cap_section=$1
    shift
    TEXT=$(limit "$@" 2>&1 </dev/null)
    STATUS=$?
    emit "$cap_section" "$STATUS" "$TEXT"
}

slurp() { # file → TEXT, without a process; false when it cannot be read
    TEXT=
    [ -f "$1" ] && [ -r "$1" ] || return 1
    while IFS= read -r slurp_line || [ -n "$slurp_line" ]; do
        TEXT="$TEXT$slurp_line$NL"
    done <"$1"
}

first_line() { # file → LINE; false when it cannot be read
    LINE=
    [ -r "$1" ] || return 1
    IFS= read -r LINE <"$1" || [ -n "$LINE" ]
}

emit_file() { # section file: nothing when it cannot be read
    if slurp "$2"; then emit "$1" 0 "$TEXT"; fi
}

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

main() {
    LC_ALL=C
    export LC_ALL
    umask 077
    : "${R=${GPUWIZARD_FLEET_ROOT-}}"
    if [ -z "$R" ]; then
        PATH="$PATH:/usr/sbin:/sbin:/usr/local/sbin:/usr/local/bin:/opt/bin:/opt/rke2/bin:/snap/bin:/usr/lib/wsl/lib"
        export PATH
    fi
    NL='
'
    BLANKS=" 	$NL"
    IFS=$BLANKS
    UNSEEN= FILES= SEEN= K3S=0 K3S_DATA= TIMEOUT=0 ROOT=0
    if have timeout; then TIMEOUT=1; fi
    ROOT_PATH=
    if [ -n "$R" ]; then ROOT_PATH=$(readlink -f -- "$R"); fi
    emit begin 0 gpuwizard-probe/1
    root=${1-}
    who=$(id -un 2>/dev/null)
    if [ "$(id -u)" = 0 ]; then
        ROOT=1
        [ -n "$root" ] || root=root
        who=${SUDO_USER:-$who}
    else
        unseen 'configuration, sockets and processes of root' 'the probe had no root rights'
    fi
    emit privilege "$ROOT" "$root|$who|${2-}"
    look_at_system
    look_at_pci
    look_at_driver
    look_at_toolkit
    look_at_units
    look_at_processes
    look_at_runtimes
    look_at_kubernetes
    send_files
    look_at_nvidia_smi
    emit unseen 0 "$UNSEEN"
    emit end 0 ''
}
