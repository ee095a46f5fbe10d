#!/bin/sh
# A simulated host has no disk of its own to wait for; the real machine's need not be bothered.
for word; do
    case $word in
    -*) ;;
    *) [ -e "$word" ] || { echo "sync: error opening '$word': No such file or directory" >&2; exit 1; } ;;
    esac
done
exit 0
