#!/bin/sh
# A private mount namespace: an empty list of bind mounts for the command and what it starts.
root=${GPUWIZARD_FLEET_ROOT:-${0%%/usr/*}}
[ "${GPUWIZARD_FLEET_USER:-}" = root ] || { echo "unshare: unshare failed: Operation not permitted" >&2; exit 1; }
while [ $# -gt 0 ]; do
    case $1 in
    --) shift; break ;;
    -m | --mount | --propagation*) shift ;;
    -*) echo "unshare: $1 is not simulated" >&2; exit 1 ;;
    *) break ;;
    esac
done
GPUWIZARD_FLEET_MOUNTS=$root/.fleet/questions/mounts.$$
export GPUWIZARD_FLEET_MOUNTS
: >"$GPUWIZARD_FLEET_MOUNTS"
"$@"
status=$?
rm -f "$GPUWIZARD_FLEET_MOUNTS"
exit "$status"
