#!/bin/sh
# Where the machine has no setsid: a Perl that makes a session of its own.
exec perl -MPOSIX=setsid -e 'fork and exit 0 if getpgrp == $$; setsid; exec @ARGV or exit 127' -- "$@"
