# The host's side of a guarded change: prepare, judge, arm, change under PID 1, health, confirm or revert.
#
# It is joined from guard-state, -files, -kept, -why, -cause, -health, -judge, -undo, -manual, -prepare, -change, -arm and this file. The
# first call (prepare) comes over SSH with its payloads and leaves a copy of the whole in the run folder; everything
# later, also what PID 1 runs, is `sh RUNFOLDER/guard.sh ROLE RUN ...`. A person can call it in the same way.
#
# Commands that POSIX does not have:
#   always       sha256sum, base64, readlink -f, stat -c, sync FILE, flock FD, flock -n FD, timeout SECONDS COMMAND,
#                systemctl show -p P -p P UNIT | reset-failed UNIT | restart --no-block UNIT | is-active --quiet UNIT
#                          | stop UNIT
#                systemd-run --quiet --collect --unit=U [--on-active=Ns --timer-property=AccuracySec=1s]
#                          --description=D sh SCRIPT ARG...
#   containerd   unshare -m sh SCRIPT ARG..., mount --bind COPY FOLDER (inside it), BINARY --config FILE config dump,
#                ctr -a SOCKET plugins ls [-d]
#   K3s          k3s ctr -a SOCKET plugins ls (where there is no ctr)
#   k0s          k0s ctr plugins ls
#   MicroK8s     microk8s ctr plugins ls, snap restart --no-wait SERVICE
#   Docker       dockerd FLAG... --validate --config-file FILE, docker -H SOCKET info --format FORMAT
#   CRI-O        crio FLAG... --config-dir FOLDER config, crio status -s SOCKET config (or crio-status)
#   if present   restorecon, chcon, getfattr, setfattr, lsattr, journalctl, perl (asks containerd in place of ctr)
# Time is only ever `sleep N` and `date +%s`.

main() {
    umask 077
    AT_BOOT='' WHY='' OLD_PID=0 NOW=0 EPOCH='' REVERTING='' TOLD=''
    role=$1
    case $role in go | revert | boot | undo) tick ;; esac
    case $role in
        prepare)
            use_run "$2"
            (prepare "${3-}")
            status=$?
            read_state
            # A refusal leaves nothing behind.
            [ "$status" = 0 ] || [ "$STATE" != none ] || rm -rf "$RUN"
            return "$status"
            ;;
        history)
            use_run "$2"
            tell_history
            ;;
        judge-inside)
            need_run "$2"
            judge_inside "$3"
            ;;
        arm | begin | confirm | status)
            need_run "$2"
            "$role"
            ;;
        go)
            need_run "$2"
            go
            ;;
        revert | undo)
            use_run "$2"
            if [ ! -e "$RUN/params" ] && [ ! -e "$RUN/table" ]; then
                # It was ended before it knew what it was about.
                rm -rf "$RUN"
                say "state none 0 "
                return 0
            fi
            need_run "$2"
            "$role" "${3:-asked for}"
            ;;
        boot)
            need_run "$2"
            at_boot
            ;;
        arm-and-watch | begin-and-watch)
            need_run "$2"
            [ "$role" = begin-and-watch ] || arm || return
            said=$(begin) || {
                printf '%s\n' "$said"
                return 1
            }
            watch "${3:-1}"
            ;;
        watch)
            need_run "$2"
            watch "${3:-1}"
            ;;
        *) broken "unknown role" ;;
    esac
}
