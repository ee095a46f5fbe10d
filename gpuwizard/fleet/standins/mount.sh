#!/bin/sh
# Bind mounts of a private mount namespace are a list, which the stand-in of containerd honours.
list=${GPUWIZARD_FLEET_MOUNTS:-}
[ -n "$list" ] || { echo "mount: permission denied (a simulated host mounts only in a private namespace)" >&2; exit 32; }
bind= paths=
for word; do
    case $word in
    --bind | -B | --rbind) bind=1 ;;
    --make-*) exit 0 ;;
    -*) ;;
    *)
        [ -e "$word" ] || { echo "mount: $word: special device does not exist" >&2; exit 32; }
        paths="$paths$word	"
        ;;
    esac
done
[ -n "$bind" ] || { echo "mount: only --bind is simulated" >&2; exit 32; }
printf '%s\n' "$paths" >>"$list"
