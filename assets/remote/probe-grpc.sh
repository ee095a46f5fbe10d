# Part of the probe: containerd's plugins, asked through its socket by plugins.pl: `ctr` takes four times as long.
# PLUGINS_PL holds that program.
# Not POSIX: perl

plugins_by_perl() { # socket → TEXT, in the columns of `ctr plugins ls`; false: there is no perl, or no answer
    have perl || return 1
    TEXT=$(perl -e "$PLUGINS_PL" "$1" 2>/dev/null </dev/null)
    STATUS=$?
    [ "$STATUS" = 0 ] && [ -n "$TEXT" ]
}
