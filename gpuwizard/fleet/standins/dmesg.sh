#!/bin/sh
# The kernel log of a simulated host: what the author laid into var/log/dmesg.
root=${GPUWIZARD_FLEET_ROOT:-${0%%/usr/*}}
[ ! -r "$root/var/log/dmesg" ] || cat "$root/var/log/dmesg"
