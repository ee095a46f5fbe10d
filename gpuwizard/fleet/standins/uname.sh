#!/bin/sh
# The kernel of the simulated host.
root=${GPUWIZARD_FLEET_ROOT:-${0%%/usr/*}}
read -r name <"$root/etc/hostname"
read -r release machine <"$root/.fleet/kernel"
version='#1 SMP PREEMPT_DYNAMIC'
words=
[ $# -gt 0 ] || set -- -s
s= n= r= v= m= o=
for word; do
    case $word in
    -a | --all) s=1 n=1 r=1 v=1 m=1 o=1 ;;
    --*) echo "uname: unrecognized option '$word'" >&2; exit 1 ;;
    -*)
        case $word in *s*) s=1 ;; esac
        case $word in *n*) n=1 ;; esac
        case $word in *r*) r=1 ;; esac
        case $word in *v*) v=1 ;; esac
        case $word in *m* | *p* | *i*) m=1 ;; esac
        case $word in *o*) o=1 ;; esac
        ;;
    esac
done
[ -z "$s" ] || words="$words Linux"
[ -z "$n" ] || words="$words $name"
[ -z "$r" ] || words="$words $release"
[ -z "$v" ] || words="$words $version"
[ -z "$m" ] || words="$words $machine"
[ -z "$o" ] || words="$words GNU/Linux"
echo "${words# }"
