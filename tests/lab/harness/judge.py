"""The host's own containerd as the judge of files that are not installed: its ``config dump``, and a daemon of its own.

Everything happens in a private mount namespace where a copy of the files lies over ``/etc/containerd``.
"""

import base64
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.lab.harness.host import LabHost

__all__ = ["Verdict", "dump", "installed", "start"]

_FOLDER = "/etc/containerd/"

# $1: a folder to work in. Its `files` becomes /etc/containerd of this namespace.
_BIND = 'mount --make-rprivate / && mount --bind "$1/files" /etc/containerd || exit 99\n'
_DAEMON = """
mkdir -p /run/nri "$1/root" "$1/state" && mount -t tmpfs none /run/nri || exit 99
{
    sh -c 'echo $$ >"$1/pid"; exec containerd --config /etc/containerd/config.toml --log-level error \
        --root "$1/root" --state "$1/state" --address "$1/sock"' daemon "$1" >"$1/log" 2>&1 </dev/null
    : >"$1/ended"
} &
until [ -S "$1/sock" ] || [ -e "$1/ended" ]; do sleep 0.02; done
until [ -e "$1/ended" ] || ctr -a "$1/sock" plugins ls >"$1/plugins" 2>/dev/null; do sleep 0.02; done
if [ -e "$1/ended" ]; then
    cat "$1/log" >&2
    exit 1
fi
kill "$(cat "$1/pid")"
wait
cat "$1/plugins"
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a daemon of its own made of the files: `cri` is ``ok``, ``error``, ``disabled`` or None when it did not
    come up; `words` is what it said."""

    starts: bool
    cri: str | None
    words: str


def installed(host: LabHost) -> dict[str, bytes]:
    """The files that lie under ``/etc/containerd`` now."""
    paths = host.run(f"find {_FOLDER} -type f -print").stdout.split()
    return {path: host.read(path) for path in paths}


def dump(host: LabHost, files: Mapping[str, bytes]) -> dict[str, Any] | None:
    """``containerd config dump`` of the files as a table; None when it refuses them."""
    ran = _judge(host, files, "containerd config dump")
    return None if ran.status else tomllib.loads(ran.stdout)


def start(host: LabHost, files: Mapping[str, bytes]) -> Verdict:
    """Start a second daemon on the files, with root, state and socket of its own, and end it."""
    ran = _judge(host, files, _DAEMON)
    if ran.status:
        return Verdict(False, None, ran.stderr)
    rows = [line.split() for line in ran.stdout.splitlines()]
    service = [row[-1] for row in rows if row[:2] == ["io.containerd.grpc.v1", "cri"]]
    parts = [row[-1] for row in rows if row[:1] == ["io.containerd.cri.v1"]]
    if "error" in service + parts:
        return Verdict(True, "error", ran.stdout)
    return Verdict(True, "ok" if service else "disabled", ran.stdout)


def _judge(host: LabHost, files: Mapping[str, bytes], command: str) -> Any:
    lines = ['set -- "$(mktemp -d /run/lab-judge.XXXXXX)"', "trap 'rm -rf \"$1\"' EXIT", 'mkdir "$1/files"']
    for path, content in files.items():
        assert path.startswith(_FOLDER), path
        name = f'"$1"/files/{shlex.quote(path.removeprefix(_FOLDER))}'
        lines.append(f'mkdir -p "$(dirname {name})"')
        lines.append(f"base64 -d >{name} <<'END'\n{base64.encodebytes(content).decode()}END")
    lines.append(f'timeout 20 unshare -m sh -c {shlex.quote(_BIND + command)} judge "$1"')
    return host.run("\n".join(lines), check=False)
