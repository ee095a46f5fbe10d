# GPU metrics on demand: each line on standard input brings one sample; when the input ends, so does the script.
# Not POSIX: nvidia-smi timeout

metrics_limit() { # seconds command…: only inside $( ), because it replaces the subshell
    if [ "$METRICS_TIMEOUT" = 1 ]; then exec timeout "$@"; fi
    shift
    exec "$@"
}

metrics_lines() { # prefix text: every line of the text with the prefix
    set -f
    IFS=$METRICS_NL
    for metrics_line in $2; do
        printf '%s %s\n' "$1" "$metrics_line"
    done
    IFS=$METRICS_BLANKS
    set +f
}

metrics_memory() { # the host's own memory, for GPUs that share it
    [ -r "$R/proc/meminfo" ] || return 0
    metrics_total='' metrics_free=''
    while read -r metrics_key metrics_value _; do
        case $metrics_key in
        MemTotal:) metrics_total=$metrics_value ;;
        MemAvailable:) metrics_free=$metrics_value ; break ;;
        esac
    done <"$R/proc/meminfo"
    printf 'memory %s %s\n' "${metrics_total:--}" "${metrics_free:--}"
}

metrics_sample() { # number of the sample
    printf '@@ sample %s\n' "$1"
    if ! command -v nvidia-smi >/dev/null 2>&1; then
        printf 'status 127\n@@ end %s\n' "$1"
        return
    fi
    read -r metrics_from _ <"$R/proc/uptime" || metrics_from=0
    metrics_text=$(metrics_limit 60 nvidia-smi --format=csv,noheader,nounits \
        --query-gpu=index,uuid,pci.bus_id,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw,power.limit,clocks.sm,clocks_throttle_reasons.active,name \
        2>&1 </dev/null)
    metrics_status=$?
    printf 'status %s\n' "$metrics_status"
    metrics_lines gpu "$metrics_text"
    metrics_memory
    read -r metrics_to _ <"$R/proc/uptime" || metrics_to=0
    # without persistence mode each call wakes every GPU: then one call a sample is enough
    if [ "$metrics_status" = 0 ] && [ $((${metrics_to%%.*} - ${metrics_from%%.*})) -lt 5 ]; then
        if metrics_text=$(metrics_limit 60 nvidia-smi --format=csv,noheader,nounits \
            --query-compute-apps=gpu_uuid,pid,used_gpu_memory,process_name 2>&1 </dev/null); then
            printf 'processes\n'
            metrics_lines process "$metrics_text"
        fi
    fi
    printf '@@ end %s\n' "$1"
}

main() {
    LC_ALL=C
    export LC_ALL
    : "${R=${GPUWIZARD_FLEET_ROOT-}}"
    METRICS_NL='
'
    METRICS_BLANKS=" 	$METRICS_NL"
    METRICS_TIMEOUT=0
    if command -v timeout >/dev/null 2>&1; then METRICS_TIMEOUT=1; fi
    metrics_number=0
    while read -r _; do
        metrics_number=$((metrics_number + 1))
        metrics_sample "$metrics_number" || return 0
    done
}
