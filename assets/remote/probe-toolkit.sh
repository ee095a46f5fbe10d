# Part of the probe: the container toolkit, and what the GPU Operator and the device plugin left.
# Not POSIX: nvidia-ctk

look_at_toolkit() {
    kit_found= kit_runtime= kit_ctk=
    for dir in /usr/local/nvidia/toolkit /usr/bin /usr/local/bin /usr/sbin /usr/local/sbin /bin /sbin /opt/bin \
        /run/current-system/sw/bin; do
        [ -d "$R$dir" ] || continue
        for name in nvidia-container-runtime nvidia-container-runtime.cdi nvidia-container-runtime.legacy \
            nvidia-container-runtime-hook nvidia-ctk nvidia-cdi-hook nvidia-container-cli; do
            if [ -f "$R$dir/$name" ] && [ -x "$R$dir/$name" ]; then
                kit_found="$kit_found$name $dir/$name$NL"
                case $name in
                nvidia-container-runtime) [ -n "$kit_runtime" ] || kit_runtime=$dir/$name ;;
                nvidia-ctk) kit_ctk=1 ;;
                esac
            fi
        done
    done
    if [ -n "$kit_runtime" ]; then emit toolkit-runtime 0 "$kit_runtime"; fi
    emit toolkit-binaries 0 "$kit_found"
    look_at_toolkit_version
    look_at_toolkit_config toolkit-config /etc/nvidia-container-runtime/config.toml
    kit_state=
    for file in "$R"/dev/char/195:*; do
        if [ -e "$file" ]; then kit_state="dev-char /dev/char$NL"; fi
    done
    for dir in /usr/share/containers/oci/hooks.d /etc/containers/oci/hooks.d /run/containers/oci/hooks.d; do
        for file in "$R$dir"/oci-nvidia-hook*.json; do
            if [ -f "$file" ]; then kit_state="${kit_state}hook ${file#"$R"}$NL"; fi
        done
    done
    emit toolkit-state 0 "$kit_state"
    look_at_sources
    look_at_cdi
}

look_at_toolkit_version() { # nvidia-ctk is asked only where no package tells: it takes 30 ms
    case ${pkg_found-} in # of look_at_packages
    *'nvidia-container-toolkit '* | *'nvidia-container-toolkit-base '*) ;;
    *) if have nvidia-ctk; then capture toolkit-version 10 nvidia-ctk --version; fi ;;
    esac
    kit_operators=$R/usr/local/nvidia/toolkit/nvidia-ctk
    if [ "$kit_ctk" = 1 ] && [ -f "$kit_operators" ] && [ -x "$kit_operators" ]; then
        capture operator-version 10 "$kit_operators" --version
    fi
}

look_at_toolkit_config() { # section file: its text, and where the low-level runtimes that it names lie
    if slurp "$R$2"; then
        emit "$1" 0 "$TEXT"
    elif [ -e "$R$2" ]; then
        emit "$1" 2 ''
        unseen "$2" 'it is there but cannot be read'
        return
    elif absent "$R$2"; then
        emit "$1" 1 ''
    else
        return
    fi
    kit_list='runc crun docker-runc ' kit_open=0
    set -f
    IFS=$NL
    for line in $TEXT; do
        if [ "$kit_open" = 0 ]; then
            case $line in
            *'#'*runtimes*=*) continue ;;
            *runtimes*=*'['*) kit_open=1 line=${line#*=} ;;
            *) continue ;;
            esac
        fi
        kit_list="$kit_list${line%%#*} "
        case $line in *']'*) break ;; esac
    done
    kit_found=
    IFS=" ,\"'[]$BLANKS"
    for name in $kit_list; do
        IFS=$BLANKS
        find_program "$name"
        kit_found="$kit_found$name $FOUND$NL"
    done
    IFS=$BLANKS
    set +f
    for name in /usr/libexec/crio/runc /usr/libexec/crio/crun /usr/lib/cri-o-runc/sbin/runc; do
        if [ -x "$R$name" ]; then kit_found="${kit_found}private $name$NL"; fi
    done
    emit "$1-low-level" 0 "$kit_found"
}

find_program() { # name or path → FOUND, as the toolkit looks: its path, else the folders that it always searches
    FOUND=
    case $1 in
    */*)
        if [ -f "$R$1" ] && [ -x "$R$1" ]; then FOUND=$1; fi
        return
        ;;
    esac
    for dir in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
        if [ -f "$R$dir/$1" ] && [ -x "$R$dir/$1" ]; then
            FOUND=$dir/$1
            return
        fi
    done
}

look_at_sources() { # package sources that name NVIDIA's repository: only the lines that say which, and its key
    set --
    for file in "$R"/etc/apt/sources.list "$R"/etc/apt/sources.list.d/*.list "$R"/etc/apt/sources.list.d/*.sources \
        "$R"/etc/yum.repos.d/*.repo "$R"/etc/zypp/repos.d/*.repo; do
        if [ -f "$file" ] && [ -r "$file" ]; then set -- "$@" "$file"; fi
    done
    [ $# -gt 0 ] && have grep || return 0
    kit_sources=$(grep -l -F nvidia.github.io "$@" 2>/dev/null)
    set -f
    IFS=$NL
    for file in $kit_sources; do
        slurp "$file" || continue
        kit_text=
        for line in $TEXT; do
            case $line in
            [Tt]ypes:* | [Ss]uites:* | [Ss]igned-[Bb]y:* | [Ee]nabled:* | enabled*=*) kit_text="$kit_text$line$NL" ;;
            *//*@*) ;; # an address with a password in it
            *nvidia.github.io*) kit_text="$kit_text$line$NL" ;;
            esac
        done
        emit "toolkit-source:${file#"$R"}" 0 "$kit_text"
    done
    IFS=$BLANKS
    set +f
}

look_at_operator() { # what the GPU Operator, its driver container and the device plugin left
    op_text=
    op_dir=/usr/local/nvidia/toolkit
    if [ -d "$R$op_dir" ]; then
        op_text="toolkit $op_dir$NL"
        if [ -f "$R$op_dir/.config/nvidia-container-runtime/config.toml" ]; then op_text="${op_text}installed config$NL"; fi
        for file in "$R$op_dir"/*; do
            case $file in
            *.real) op_text="${op_text}installed ${file##*/}$NL" && continue ;;
            *.so | *.so.*) continue ;;
            esac
            if [ -f "$file" ] && [ -x "$file" ]; then op_text="${op_text}program ${file##*/}$NL"; fi
        done
        look_at_wrapper
        look_at_toolkit_config operator-config $op_dir/.config/nvidia-container-runtime/config.toml
    fi
    look_at_toolkit_pod
    look_at_validations
    if [ -d "$R/run/nvidia/driver/usr" ]; then
        op_text="${op_text}driver /run/nvidia/driver$NL"
        for file in "$R"/run/nvidia/driver/usr/lib/libnvidia-ml.so.*.* "$R"/run/nvidia/driver/usr/lib64/libnvidia-ml.so.*.* \
            "$R"/run/nvidia/driver/usr/lib/*/libnvidia-ml.so.*.*; do
            if [ -e "$file" ]; then op_text="${op_text}driver-library ${file#"$R"}$NL"; fi
        done
    fi
    for dir in /var/lib/kubelet /var/snap/microk8s/common/var/lib/kubelet /var/lib/k0s/kubelet; do
        if [ -r "$R$dir/device-plugins" ] && [ -x "$R$dir/device-plugins" ]; then
            op_text="${op_text}plugin-folder $dir/device-plugins$NL"
            for file in "$R$dir"/device-plugins/nvidia*.sock; do
                if [ -e "$file" ]; then op_text="${op_text}plugin-socket ${file#"$R"}$NL"; fi
            done
        fi
        if [ -e "$R$dir/plugins/gpu.nvidia.com" ]; then op_text="${op_text}component dra-driver$NL"; fi
    done
    if [ -e "$R/run/nvidia/mps" ]; then op_text="${op_text}component mps$NL"; fi
    for file in "$R"/etc/kubernetes/node-feature-discovery/features.d/gfd*; do
        if [ -e "$file" ]; then op_text="${op_text}component gpu-feature-discovery$NL"; fi
    done
    emit operator 0 "$op_text"
}

look_at_wrapper() { # the operator's programs are scripts that start NAME.real beside them
    op_real=$op_dir/nvidia-container-runtime.real
    [ -f "$R$op_dir/nvidia-container-runtime" ] && [ -r "$R$op_dir/nvidia-container-runtime" ] || return 0
    if [ -f "$R$op_real" ]; then
        if [ ! -x "$R$op_real" ]; then op_text="${op_text}broken $op_real cannot be run$NL"; fi
        return 0
    fi
    case $(dd if="$R$op_dir/nvidia-container-runtime" bs=2 count=1 2>/dev/null) in
    '#!') ;;
    *) return 0 ;; # the program itself, placed there by hand
    esac
    slurp "$R$op_dir/nvidia-container-runtime"
    case $TEXT in *nvidia-container-runtime.real*) op_text="${op_text}broken $op_real does not exist$NL" ;; esac
}

look_at_toolkit_pod() { # it shares the host's process numbers, and notes its own
    if [ ! -e "$R/run/nvidia" ]; then
        op_text="${op_text}pod none$NL"
    elif [ -x "$R/run/nvidia" ] && [ -d "$R/proc/1" ]; then
        op_pod=none
        for file in /run/nvidia/toolkit/toolkit.pid /run/nvidia/toolkit.pid; do
            first_line "$R$file" || continue
            op_pod=gone
            case $LINE in '' | *[!0-9]*) ;; *) if [ -d "$R/proc/$LINE" ]; then op_pod=running && break; fi ;; esac
        done
        op_text="${op_text}pod $op_pod$NL"
    fi
}

look_at_validations() {
    op_dir=/run/nvidia/validations
    [ -r "$R$op_dir" ] && [ -x "$R$op_dir" ] || return 0
    op_text="${op_text}validations $op_dir$NL"
    for file in "$R$op_dir"/* "$R$op_dir"/.*-ready; do
        if [ -f "$file" ]; then op_text="${op_text}validation ${file##*/}$NL"; fi
    done
    if slurp "$R$op_dir/driver-ready"; then
        set -f
        IFS=$NL
        for line in $TEXT; do
            case $line in IS_HOST_DRIVER=* | NVIDIA_DRIVER_ROOT=*) op_text="${op_text}driver-ready $line$NL" ;; esac
        done
        IFS=$BLANKS
        set +f
    fi
    if slurp "$R$op_dir/workload-type"; then op_text="${op_text}workload ${TEXT%%"$NL"*}$NL"; fi
}
