# Part of the probe: the driver's versions, its modules for every kernel, the daemons beside it.
# Not POSIX: modinfo

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

look_at_companions() { # DKMS, headers, kernel log, fabric manager, IMEX
    :
}
