#!/bin/sh
# Who owns a file is not simulated: everything is root's. Root may say so, others may not.
[ "${GPUWIZARD_FLEET_USER:-}" = root ] || { echo "chown: changing ownership: Operation not permitted" >&2; exit 1; }
owner= bad=0
for word; do
    case $word in
    -*) continue ;;
    esac
    if [ -z "$owner" ]; then owner=$word; continue; fi
    [ -e "$word" ] || [ -L "$word" ] || { echo "chown: cannot access '$word': No such file or directory" >&2; bad=1; }
done
exit "$bad"
