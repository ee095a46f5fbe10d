#!/bin/sh
# Who a script is on its simulated host.
root=${GPUWIZARD_FLEET_ROOT:-${0%%/usr/*}}
user=${GPUWIZARD_FLEET_USER:-nobody} number=1000
[ "$user" != root ] || number=0
case "$*" in
-u | -g | '-r -u' | '-u -r' | -ru | -ur | -G) echo "$number" ;;
-un | -nu | '-u -n' | '-n -u' | -gn | -ng) echo "$user" ;;
*) echo "uid=$number($user) gid=$number($user) groups=$number($user)" ;;
esac
