#!/bin/sh
# Sleep in the fleet's time, which goes faster.
root=${GPUWIZARD_FLEET_ROOT:-${0%%/usr/*}}
read -r _ _ speed <"$root/.fleet/clock"
total=0
for word; do
    case $word in
    *s) word=${word%s} unit=1 ;;
    *m) word=${word%m} unit=60 ;;
    *h) word=${word%h} unit=3600 ;;
    *d) word=${word%d} unit=86400 ;;
    *) unit=1 ;;
    esac
    case $word in infinity | inf) word=100000 ;; esac
    whole=${word%%.*} part=000
    case $word in *.*) part=${word#*.}000 ;; esac
    part=${part%"${part#???}"}
    case $whole$part in
    '' | *[!0-9]*) echo "sleep: invalid time interval '$word'" >&2; exit 1 ;;
    esac
    while :; do case $part in 0?*) part=${part#0} ;; *) break ;; esac; done
    while :; do case $whole in 0?*) whole=${whole#0} ;; *) break ;; esac; done
    total=$((total + (${whole:-0} * 1000 + part) * unit))
done
total=$((total * 1000 / speed))
rest=$((total % 1000 + 1000))
exec "$root/.fleet/real/sleep" "$((total / 1000)).${rest#1}"
