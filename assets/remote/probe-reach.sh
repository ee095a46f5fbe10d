# Part of the probe that is sent only when it was asked for: do registries and package sources answer?
# Not POSIX: curl wget

look_at_reach() { # at most eight addresses at once, each for five seconds, by the proxies that are set for them
    if have curl; then
        reach_with=curl
    elif have wget; then
        reach_with=wget
    else
        unseen 'registries and package sources' 'neither curl nor wget is installed'
        return
    fi
    REACHES="registry https://nvcr.io${NL}registry https://registry.k8s.io$NL"
    reach_later=
    for path in "$R"/etc/containerd/certs.d/*/hosts.toml \
        "$R"/var/lib/rancher/*/agent/etc/containerd/certs.d/*/hosts.toml \
        "$R"/etc/rancher/k3s/registries.yaml "$R"/etc/rancher/rke2/registries.yaml; do
        reach_file registry "$path"
    done
    reach_mirrors "$R/etc/docker/daemon.json"
    for path in "$R"/etc/apt/sources.list "$R"/etc/apt/sources.list.d/*.list "$R"/etc/apt/sources.list.d/*.sources \
        "$R"/etc/yum.repos.d/*.repo "$R"/etc/zypp/repos.d/*.repo; do
        reach_file packages "$path"
    done
    set -f
    IFS=$NL
    # shellcheck disable=SC2086  # one target a line
    set -- $REACHES $reach_later
    IFS=$BLANKS
    set +f
    if [ $# -gt 8 ]; then
        unseen 'further registries and package sources' "$(($# - 8)) more are configured; 8 were asked"
    fi
    emit reach 0 "$(
        reach_count=0
        for target; do
            reach_count=$((reach_count + 1))
            [ "$reach_count" -le 8 ] || break
            reach_one "$target" &
        done
        wait
    )"
}

reach_one() { # `kind url` → one line `kind url status words`
    reach_url=${1#* }
    case $1 in
    registry*) reach_url=$reach_url/v2/ reach_proxy=${RUNTIME_PROXY-} reach_direct=${RUNTIME_NO_PROXY-} ;;
    *) reach_url=$reach_url/ reach_proxy=${PACKAGE_PROXY-} reach_direct= ;;
    esac
    export http_proxy="$reach_proxy" https_proxy="$reach_proxy" no_proxy="$reach_direct"
    unset HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY all_proxy
    case $reach_with in
    curl) set -- "$1" curl -q -k -s -S -o /dev/null -m 5 -w 'HTTP %{http_code}' "$reach_url" ;;
    *) set -- "$1" wget --no-check-certificate -T 5 -O /dev/null "$reach_url" ;;
    esac
    reach_target=$1
    shift
    reach_text=$(limit 6 "$@" 2>&1 </dev/null)
    reach_status=$?
    hide_login "$reach_text"
    set -f
    # shellcheck disable=SC2086  # on one line
    set -- "$reach_target" "$reach_status" $LINE
    printf '%s\n' "$*"
}

reach_add() { # kind address: what names NVIDIA comes before the others
    case $NL$REACHES$reach_later in *"$NL$1 $2$NL"*) return 0 ;; esac
    case $2 in
    *nvidia*) REACHES="$REACHES$1 $2$NL" ;;
    *) reach_later="$reach_later$1 $2$NL" ;;
    esac
}

reach_urls() { # kind line: every http(s) address in it, without path, login and what has variables
    reach_rest=$2
    while :; do
        case $reach_rest in *http://* | *https://*) ;; *) break ;; esac
        reach_scheme=${reach_rest%%://*}
        reach_rest=${reach_rest#*://}
        case $reach_scheme in *https) reach_scheme=https ;; *http) reach_scheme=http ;; *) continue ;; esac
        reach_host=${reach_rest%%[]/\"\'\;,\)\}"$BLANKS"]*}
        reach_host=${reach_host##*@}
        case $reach_host in '' | *[!A-Za-z0-9.:_-]*) continue ;; esac
        reach_pending="$reach_pending$1 $reach_scheme://$reach_host$NL"
    done
}

reach_file() { # kind file: its addresses, but for stanzas that are switched off
    [ -f "$2" ] && [ -r "$2" ] || return 0
    reach_pending= reach_off=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        \#*) continue ;;
        '['*) reach_stanza; reach_urls "$1" "$line" ;;
        '') case $2 in *.sources) reach_stanza ;; esac ;;
        enabled=0* | enabled\ =\ 0* | [eE]nabled:\ [nN]*) reach_off=1 ;;
        gpg* | Signed-By:*) ;;
        *) reach_urls "$1" "$line" ;;
        esac
    done <"$2"
    reach_stanza
}

reach_stanza() {
    set -f
    IFS=$NL
    for reach_found in $reach_pending; do
        if [ -z "$reach_off" ]; then reach_add "${reach_found% *}" "${reach_found#* }"; fi
    done
    IFS=$BLANKS
    set +f
    reach_pending= reach_off=
}

reach_mirrors() { # Docker's registry-mirrors, on whatever lines they stand
    slurp "$1" || return 0
    case $TEXT in *'"registry-mirrors"'*) ;; *) return 0 ;; esac
    TEXT=${TEXT#*\"registry-mirrors\"}
    reach_pending= reach_off=
    reach_urls registry "${TEXT%%]*}"
    reach_stanza
}

note_proxy() { # file line: the first proxy of a runtime, and of the package manager
    case $1 in
    */kubelet* | */etc/environment | */sysconfig/proxy) ;;
    */apt/* | */dnf.conf | */yum.conf)
        case $2 in
        *http://*) PACKAGE_PROXY=${PACKAGE_PROXY-http://${2#*http://}} ;;
        *https://*) PACKAGE_PROXY=${PACKAGE_PROXY-https://${2#*https://}} ;;
        esac
        PACKAGE_PROXY=${PACKAGE_PROXY-}
        PACKAGE_PROXY=${PACKAGE_PROXY%%[\"\;"$BLANKS"]*}
        ;;
    *)
        case $2 in
        *HTTPS_PROXY=*) note_rest=${2#*HTTPS_PROXY=} ;;
        *https_proxy=*) note_rest=${2#*https_proxy=} ;;
        *) note_rest= ;;
        esac
        note_rest=${note_rest#[\"\']}
        RUNTIME_PROXY=${RUNTIME_PROXY:-${note_rest%%[\"\'"$BLANKS"]*}}
        case $2 in
        *NO_PROXY=*) note_rest=${2#*NO_PROXY=} ;;
        *no_proxy=*) note_rest=${2#*no_proxy=} ;;
        *) note_rest= ;;
        esac
        note_rest=${note_rest#[\"\']}
        RUNTIME_NO_PROXY=${RUNTIME_NO_PROXY:-${note_rest%%[\"\'"$BLANKS"]*}}
        ;;
    esac
}
