#!/bin/sh
# Any program that needs hardware, a service or the runtime: it asks the fleet and prints what it is told.
# The question is a file of NUL-separated words; the answer comes through a pipe of its own.
root=${GPUWIZARD_FLEET_ROOT:-${0%%/usr/*}}
talk=$root/.fleet
printf '%s\0' "${0##*/}" "${GPUWIZARD_FLEET_USER:-}" "$PWD" "${GPUWIZARD_FLEET_MOUNTS:-}" "$@" >"$talk/questions/$$" || exit 126
mkfifo "$talk/answers/$$" || exit 126
exec 3<>"$talk/answers/$$"
printf '%s\n' "$$" >"$talk/bell" || exit 126
read -r status out err <&3
[ "$out" = 0 ] || head -c "$out" <&3 || exit 141
[ "$err" = 0 ] || head -c "$err" <&3 >&2
exit "$status"
