#!/bin/sh
# The one disk of the simulated host, in blocks of 1 KiB.
root=${GPUWIZARD_FLEET_ROOT:-${0%%/usr/*}}
for word; do
    case $word in
    -*) ;;
    *) [ -e "$word" ] || { echo "df: $word: No such file or directory" >&2; exit 1; } ;;
    esac
done
read -r free <"$root/.fleet/free"
echo 'Filesystem     1024-blocks      Used Available Capacity Mounted on'
printf '/dev/nvme0n1p2   479151816 %9d %9d      %2d%% /\n' "$((479151816 - free))" "$free" "$(((479151816 - free) * 100 / 479151816))"
