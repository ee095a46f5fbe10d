# Part of the probe: every container runtime.
# Not POSIX: containerd ctr dockerd crio k0s k3s readlink stat systemctl

look_at_runtimes() {
    BINARIES= plain=0
    look_for_programs
    set -f
    IFS=$NL
    # shellcheck disable=SC2086  # one process a line
    set -- $PIDS
    IFS=$BLANKS
    set +f
    for entry; do
        run_pid=${entry%% *}
        entry=${entry#* }
        run_exe=${entry%%|*}
        entry=${entry#*|}
        run_name=${entry%%|*}
        entry=${entry#*|}
        run_config=${entry%%|*}
        run_socket=${entry#*|}
        case $run_config in '') run_config=/etc/containerd/config.toml plain=1 ;; /etc/containerd/config.toml) plain=1 ;; esac
        look_at_containerd "$run_pid"
    done
    if [ "$plain" = 0 ]; then look_at_stopped_containerd; fi
    add_file /etc/containerd/config.toml
    add_file /etc/containerd/conf.d/99-gpuwizard-nvidia.toml
    for file in "$R"/etc/containerd/conf.d/*.toml; do add_existing "$file"; done
    look_at_docker
    look_at_crio
    for file in nvidia-container-runtime nvidia-container-runtime-hook nvidia-cdi-hook runc crun; do note_program "$file"; done
    emit programs 0 "$BINARIES"
}

look_for_programs() { # which of them PATH gives, without a process
    run_found=
    set -f
    IFS=:
    for run_program in containerd dockerd crio podman cri-dockerd nerdctl; do
        for run_dir in $PATH; do
            if [ -x "$run_dir/$run_program" ] && [ ! -d "$run_dir/$run_program" ]; then
                run_found="$run_found$run_program=${run_dir#"$R"}/$run_program$NL"
                break
            fi
        done
    done
    IFS=$BLANKS
    set +f
    if in_path containerd && [ -L "$R$FOUND" ]; then
        run_target=$(readlink -f -- "$R$FOUND" 2>/dev/null)
        run_found="${run_found}containerd-file=${run_target#"$ROOT_PATH"}$NL"
    fi
    emit path-programs 0 "$run_found"
}

in_path() { # program → FOUND, its path on the host
    FOUND=
    case "$NL$run_found" in *"$NL$1="*) ;; *) return 1 ;; esac
    FOUND=${run_found#*"$1="}
    FOUND=${FOUND%%"$NL"*}
}

look_at_stopped_containerd() { # one that is installed and of which no process runs with the usual file
    run_exe= run_name= run_config= run_socket=
    unit_command containerd.service
    if [ -n "$UNIT_COMMAND" ]; then
        run_flag=
        for arg in $UNIT_COMMAND; do
            [ -n "$run_name" ] || run_name=$arg
            case $run_flag in --config | -c) run_config=$arg ;; --address | -a) run_socket=$arg ;; esac
            case $arg in --config=* | -c=*) run_config=${arg#*=} ;; --address=* | -a=*) run_socket=${arg#*=} ;; esac
            run_flag=$arg
        done
        case $run_name in /*) [ -x "$R$run_name" ] || run_name= ;; *) run_name= ;; esac
        run_exe=$run_name
    fi
    if [ -z "$run_name" ]; then
        in_path containerd || return 0
        case $FOUND in */rancher/*) return 0 ;; esac # K3s may put its own applet into PATH
        run_name=containerd
    fi
    case "$NL$PIDS" in *"|${run_config:-/etc/containerd/config.toml}|"*) return 0 ;; esac
    run_config=${run_config:-/etc/containerd/config.toml}
    look_at_containerd 0
}

unit_command() { # unit → UNIT_COMMAND, the words of its ExecStart, where it has a file
    UNIT_COMMAND=
    case $UNITS in *"/$1$NL"*) ;; *) return 0 ;; esac
    run_shown=$(limit 10 systemctl show -p ExecStart "$1" 2>/dev/null </dev/null)
    case $run_shown in *argv\[\]=*) ;; *) return 0 ;; esac
    UNIT_COMMAND=${run_shown#*argv\[\]=}
    UNIT_COMMAND=${UNIT_COMMAND%%" ; "*}
}

look_at_containerd() { # pid, or 0 when none runs; reads run_exe run_name run_config run_socket
    run_key=$1 run_deleted=0 run_binary=containerd run_data=
    case $run_exe in *' (deleted)') run_deleted=1 run_exe=${run_exe% (deleted)} ;; esac
    if [ -z "$R" ]; then
        if [ -n "$run_exe" ] && [ -x "$run_exe" ]; then
            run_binary=$run_exe
        else
            case $run_name in /*) if [ -x "$run_name" ]; then run_binary=$run_name; fi ;; esac
        fi
    fi
    add_file "$run_config"
    walk_imports "$run_config"
    case $run_config in */agent/etc/containerd/config.toml) look_at_rancher; return ;; esac
    look_at_version
    dump_config
    if [ -z "$run_socket" ] && [ "$run_config" = /etc/containerd/config.toml ]; then
        run_socket=/run/containerd/containerd.sock
    fi
    emit "containerd:$run_key" 0 "config=$run_config${NL}socket=$run_socket${NL}binary=$run_binary
exe=$run_exe${NL}deleted=$run_deleted${NL}package=$PACKAGE$NL"
    ask_plugins
}

look_at_version() { # emits it, or leaves it to the package that put the program there
    PACKAGE=
    if [ "$run_deleted" = 1 ] && [ -z "$R" ]; then
        # its file was replaced since it was started: the kernel still has the old one
        capture "containerd-running:$run_key" 10 "/proc/$run_key/exe" --version
    elif from_package "$run_binary" containerd.io containerd moby-containerd; then
        return 0
    fi
    if [ -n "$R" ] || have "$run_binary"; then capture "containerd-version:$run_key" 10 "$run_binary" --version; fi
}

from_package() { # program package…: PACKAGE, when dpkg put it there and nothing touched it since
    PACKAGE=
    case $1 in /usr/bin/*) ;; *) return 1 ;; esac
    run_program=$1
    shift
    for package; do
        run_list=$R/var/lib/dpkg/info/$package.list
        case "$NL${pkg_found-}" in *"$NL$package "*) ;; *) continue ;; esac
        [ -f "$run_list" ] || continue
        # dpkg writes the list in the moment in which it unpacks the program
        run_times=$(stat -L -c %Z -- "$R$run_program" "$run_list" 2>/dev/null) || continue
        case $run_times in ?*"$NL"?*) ;; *) continue ;; esac
        run_apart=$((${run_times%%"$NL"*} - ${run_times#*"$NL"}))
        if [ "$run_apart" -ge -120 ] && [ "$run_apart" -le 120 ]; then
            PACKAGE=$package
            return 0
        fi
    done
    return 1
}

look_at_rancher() { # K3s and RKE2: their rendered file says it, and the binary is an applet
    run_data=${run_config%/agent/etc/containerd/config.toml}
    if [ -x "$R$run_data/data/current/bin/containerd" ]; then run_exe=$run_data/data/current/bin/containerd; fi
    run_socket=${run_socket:-/run/k3s/containerd/containerd.sock}
    emit "containerd:$run_key" 0 "config=$run_config${NL}socket=$run_socket${NL}binary=$run_exe$NL"
    case $run_exe in
    */containerd)
        if [ -x "$R$run_exe" ]; then capture "containerd-version:$run_key" 10 "$R$run_exe" --version; fi
        ;;
    esac
    if slurp "$R$run_config"; then note_programs BinaryName "$TEXT"; fi
    case $run_config in */rke2/*) ;; *) K3S_DATA="$K3S_DATA$run_data$NL" ;; esac
    ask_plugins
}

dump_config() { # containerd's own view of its files; its socket, where no argument names it
    dump=
    [ "$ROOT" = 1 ] || return 0
    if [ -n "$PACKAGE" ]; then # a release that is known: what it makes of its files is worked out where they are read
        grep_settings
        return 0
    fi
    if [ -z "$R" ] && ! have "$run_binary"; then return 0; fi
    dump=$(limit 10 "$run_binary" --config "$R$run_config" config dump 2>/dev/null </dev/null)
    STATUS=$?
    case $STATUS in
    0) emit "containerd-dump:$run_key" 0 "$dump" ;;
    124 | 137)
        dump=
        unseen "what containerd makes of $run_config" 'config dump gave no answer in 10 s'
        ;;
    *)
        dump=
        capture "containerd-error:$run_key" 10 "$run_binary" --config "$R$run_config" config dump
        ;;
    esac
    if [ -n "$dump" ]; then read_settings; else grep_settings; fi
}

grep_settings() { # the same out of the files themselves: of its own and of all that were found by its imports
    set -- "$R$run_config"
    set -f
    IFS=$NL
    for file in $SEEN; do set -- "$@" "$R$file"; done
    IFS=$BLANKS
    set +f
    dump=$(grep -hE '^[[:blank:]]*\[|^[^#]*(address|BinaryName)' "$@" /dev/null 2>/dev/null)
    read_settings
}

read_settings() { # of dump: the programs that it names, and the socket
    run_table=
    set -f
    IFS=$NL
    for line in $dump; do
        case $line in
        '#'*) ;;
        *BinaryName*=*) note_value "${line#*BinaryName}" ;;
        *'[grpc]'* | *"server.v1.grpc'"* | *'server.v1.grpc"'*) run_table=grpc ;; # the latter from version 4 on
        '['* | ' '*'[plugins'*) run_table= ;;
        *address*=*)
            if [ -z "$run_socket" ] && [ "$run_table" = grpc ]; then
                case $line in *_address*) continue ;; esac
                line=${line#*[\"\']}
                run_socket=${line%%[\"\']*}
            fi
            ;;
        esac
    done
    IFS=$BLANKS
    set +f
}

ask_plugins() { # the CRI plugin's state, from the daemon itself
    [ "$ROOT" = 1 ] && [ "$run_key" != 0 ] && [ -n "$run_socket" ] || return 0
    if [ -n "$R" ]; then
        case $run_config in
        */agent/etc/containerd/config.toml)
            if have k3s; then capture "containerd-plugins:$run_key" 15 k3s ctr plugins ls; fi
            ;;
        *) if have ctr; then capture "containerd-plugins:$run_key" 10 ctr --address "$R$run_socket" plugins ls; fi ;;
        esac
        return 0
    fi
    if plugins_by_perl "$run_socket"; then
        emit "containerd-plugins:$run_key" 0 "$TEXT"
        return 0
    fi
    run_ctr=
    for file in "${run_exe%/*}/ctr" "$run_data/bin/ctr" ctr; do
        if have "$file"; then
            run_ctr=$file
            break
        fi
    done
    if [ -n "$run_ctr" ]; then
        capture "containerd-plugins:$run_key" 10 "$run_ctr" --address "$run_socket" plugins ls
    elif have k0s && [ "${run_socket#*/k0s/}" != "$run_socket" ]; then
        capture "containerd-plugins:$run_key" 15 k0s ctr plugins ls
    else
        unseen "the CRI plugin behind $run_socket" 'there is no ctr'
        return 0
    fi
    if [ "$STATUS" != 0 ]; then unseen "the CRI plugin behind $run_socket" "ctr: ${TEXT%%"$NL"*}"; fi
}

note_programs() { # key text: every program that the text names after that key
    case $2 in *"$1"*) ;; *) return 0 ;; esac
    set -f
    IFS=$NL
    for line in $2; do
        case $line in *"$1"*) note_value "${line#*"$1"}" ;; esac
    done
    IFS=$BLANKS
    set +f
}

note_value() { # rest of a line: the first thing in quotes behind a = or :
    note=${1#*[=:]}
    case $note in *[\"\']*) ;; *) return 0 ;; esac
    note=${note#*[\"\']}
    note_program "${note%%[\"\']*}"
}

note_program() { # program as a configuration names it: BINARIES says where it is, or nothing behind the =
    case $1 in '' | *[!A-Za-z0-9_./+-]*) return 0 ;; esac
    case "$NL$BINARIES" in *"$NL$1="*) return 0 ;; esac
    note_path=
    case $1 in
    /*)
        if is_program "$1"; then note_path=$1; elif ! absent "$R$1"; then return 0; fi
        ;;
    */*) return 0 ;;
    *)
        # where systemd lets services look
        for note_dir in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
            if is_program "$note_dir/$1"; then note_path=$note_dir/$1; break; fi
        done
        ;;
    esac
    BINARIES="$BINARIES$1=$note_path$NL"
}

is_program() { # path on the host
    if [ -x "$R$1" ]; then [ ! -d "$R$1" ]; else [ -n "$R" ] && [ -L "$R$1" ]; fi
}

look_at_docker() {
    add_file /etc/docker/daemon.json
    docker_files=/etc/docker/daemon.json$NL
    set -f
    IFS=$NL
    # shellcheck disable=SC2086  # one process a line
    set -- $DOCKERDS
    IFS=$BLANKS
    set +f
    docker_exe=
    for entry; do
        entry=${entry#* }
        docker_exe=${entry%%|*}
        entry=${entry#*|}
        add_file "$entry"
        docker_files="$docker_files$entry$NL"
    done
    [ -n "$DOCKERDS" ] || in_path dockerd || return 0
    add_file /var/lib/gpuwizard/docker-default-runtime
    for file in nvidia-container-runtime nvidia-container-runtime-hook nvidia-cdi-hook; do add_time "/usr/bin/$file"; done
    set -f
    IFS=$NL
    for file in $docker_files; do
        set +f
        IFS=$BLANKS
        if slurp "$R$file"; then note_programs '"path"' "$TEXT"; fi
    done
    docker_exe=${docker_exe% (deleted)}
    docker_program=dockerd
    if [ -z "$R" ] && [ -n "$docker_exe" ] && [ -x "$docker_exe" ]; then docker_program=$docker_exe; fi
    in_path dockerd || :
    if from_package "${docker_exe:-$FOUND}" docker-ce docker.io moby-engine; then
        emit docker-package 0 "$PACKAGE"
    elif have "$docker_program"; then
        capture docker-version 10 "$docker_program" --version
    fi
    if [ -n "$DOCKERDS" ]; then live_by_perl docker-live /run/docker.sock /info; fi
}

look_at_crio() {
    set -f
    IFS=$NL
    crio_config=/etc/crio/crio.conf
    # shellcheck disable=SC2086  # one process a line
    set -- ${CRIOS:-0 |$crio_config|$crio_config.d}
    IFS=$BLANKS
    set +f
    for entry; do
        entry=${entry#* }
        crio_exe=${entry%%|*}
        entry=${entry#*|}
        crio_config=${entry%%|*}
        crio_folder=${entry#*|}
        if [ -e "$R$crio_config" ]; then add_file "$crio_config"; fi
        add_time "$crio_folder"
        add_tree "$R$crio_folder"
    done
    [ -n "$CRIOS" ] || in_path crio || return 0
    add_file "$crio_folder/99-gpuwizard-nvidia.toml"
    add_file /etc/nvidia-container-runtime/config.toml
    crio_unread=
    for file in "$R"/etc/crio/conf.d/*; do # a folder that guides name and CRI-O does not read
        if [ -f "$file" ]; then crio_unread="$crio_unread${file#"$R"}$NL"; fi
    done
    emit crio-unread 0 "$crio_unread"
    set -f
    IFS=$NL
    for file in $FILES; do
        set +f
        IFS=$BLANKS
        case $file in "$crio_config" | "$crio_folder"/*) if slurp "$R$file"; then note_programs runtime_path "$TEXT"; fi ;; esac
    done
    for file in /usr/libexec/crio/crun /usr/libexec/crio/runc; do note_program "$file"; done
    crio_exe=${crio_exe% (deleted)}
    if from_package "${crio_exe:-/usr/bin/crio}" cri-o; then
        emit crio-package 0 "$PACKAGE"
    elif [ -z "$R" ] && [ -n "$crio_exe" ] && [ -x "$crio_exe" ]; then
        capture crio-version 10 "$crio_exe" --version
    elif have crio; then
        capture crio-version 10 crio --version
    fi
    if [ -n "$CRIOS" ]; then live_by_perl crio-live /run/crio/crio.sock /config; fi
}
