# Part of the probe: containerd's plugins, asked through its socket by plugins.pl: `ctr` takes four times as long.
# PLUGINS_PL holds that program; LIVE_PL the one that asks Docker and CRI-O what they run with.
# Not POSIX: perl

plugins_by_perl() { # socket → TEXT, in the columns of `ctr plugins ls`; false: there is no perl, or no answer
    have perl || return 1
    TEXT=$(perl -e "$PLUGINS_PL" "$1" 2>/dev/null </dev/null)
    STATUS=$?
    [ "$STATUS" = 0 ] && [ -n "$TEXT" ]
}

live_by_perl() { # section socket page: what a running Docker or CRI-O has, where it listens at its usual place
    [ -S "$R$2" ] && have perl || return 0
    TEXT=$(perl -e "$LIVE_PL" "$R$2" "$3" 2>/dev/null </dev/null)
    emit "$1" "$?" "$TEXT"
}
