#!/bin/sh
# Every file of a simulated host belongs to root, whatever user the fleet runs as.
root=${GPUWIZARD_FLEET_ROOT:-${0%%/usr/*}}
count=$# mine=
while [ "$count" -gt 0 ]; do
    word=$1
    shift
    count=$((count - 1))
    case $mine,$word in
    1,* | ,--format=* | ,--printf=* | ,-c?*)
        ready= mine=
        while :; do
            case $word in *%[ugUG]*) ;; *) break ;; esac
            before=${word%%%[ugUG]*}
            rest=${word#"$before"%}
            case $rest in [ug]*) owner=0 ;; *) owner=root ;; esac
            ready=$ready$before$owner word=${rest#?}
        done
        word=$ready$word
        ;;
    ,-c) mine=1 ;;
    esac
    set -- "$@" "$word"
done
exec "$root/.fleet/real/stat" "$@"
