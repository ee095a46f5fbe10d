#!/bin/sh
root=${GPUWIZARD_FLEET_ROOT:-${0%%/usr/*}}
read -r name <"$root/etc/hostname"
echo "$name"
