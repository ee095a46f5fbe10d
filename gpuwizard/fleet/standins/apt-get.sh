#!/bin/sh
# A simulated host installs nothing.
echo 'E: Unable to acquire the dpkg frontend lock: packages are not simulated' >&2
exit 100
