"""Real containerd binaries as judges of files: their ``config dump``, and a daemon of its own in private namespaces.

The daemon needs root: it runs in a mount and a process namespace of its own where /run, /etc, /opt and /var are
copies that vanish with it and the rest is read-only, so that nothing of this machine is touched and nothing is left
running.
"""

import os
import re
import shlex
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["Daemon", "Dump", "dump", "named_binaries", "release_of", "start"]

# $1 containerd, $2 ctr, $3 the folder of the files, $4 where they must lie, $5 the root file.
_DAEMON = r"""
mount --make-rprivate / && mount -t proc none /proc || exit 99
mkdir -p "$3/private" && mount -t tmpfs none "$3/private" || exit 99
for place in etc opt var; do
    mkdir -p "$3/private/$place" "$3/private/work-$place"
    mount -t overlay -o "lowerdir=/$place,upperdir=$3/private/$place,workdir=$3/private/work-$place" none "/$place" \
        || exit 99
done
mkdir -p "$4" && mount --bind "$3/files" "$4" && mount -t tmpfs none /run && mkdir /run/judge || exit 99
mount -o remount,bind,ro / || exit 99
cd /
{
    sh -c 'echo $$ >/run/judge/pid; exec "$0" "$@"' "$1" --config "$5" \
        --root /run/judge/root --state /run/judge/state --address /run/judge/sock >/run/judge/log 2>&1 </dev/null
    : >/run/judge/ended
} &
until [ -S /run/judge/sock ] || [ -e /run/judge/ended ]; do sleep 0.02; done
until [ -e /run/judge/ended ] \
    || timeout 3 "$2" -a /run/judge/sock --connect-timeout 2s plugins ls >/run/judge/plugins 2>/dev/null; do
    sleep 0.02
done
if [ -e /run/judge/ended ]; then cat /run/judge/log >&2; exit 1; fi
kill -9 "$(cat /run/judge/pid)"
cat /run/judge/log >&2
cat /run/judge/plugins
"""


@dataclass(frozen=True, slots=True)
class Dump:
    """What ``config dump`` printed; `table` is None when it refused, `words` what it complained of."""

    table: dict[str, Any] | None
    words: str


@dataclass(frozen=True, slots=True)
class Daemon:
    """What a daemon of its own made of the files: `cri` is ``ok``, ``error``, ``disabled``, or None when it did not
    come up. `plugins` maps a plugin's URI to its state."""

    starts: bool
    cri: str | None
    words: str
    plugins: Mapping[str, str]


def named_binaries() -> list[str]:
    """The containerds to ask: those named in GPUWIZARD_CONTAINERDS (paths with colons between)."""
    return [path for path in os.environ.get("GPUWIZARD_CONTAINERDS", "").split(":") if path]


@lru_cache
def release_of(binary: str) -> str:
    """The version number that a binary says of itself."""
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r" v?(\d+\.\d+\.\d+)", text)
    assert found, text
    return found[1]


def dump(binary: str, files: Mapping[str, bytes], main: str) -> Dump:
    """``config dump`` of `files`, whose paths all lie in the folder of `main`."""
    with tempfile.TemporaryDirectory() as folder:
        home = _write(folder, files, main)
        script = (
            'mount --make-rprivate / && mkdir -p "$1" && mount --bind "$2" "$1" && cd /'
            ' && exec "$3" -c "$4" config dump'
        )
        command = ["unshare", "-m", "sh", "-c", script, "judge", home, f"{folder}/files", binary, main]
        ran = subprocess.run(command, capture_output=True, check=False)
    words = ran.stderr.decode(errors="replace")
    return Dump(None if ran.returncode else tomllib.loads(ran.stdout.decode()), words)


def start(binary: str, files: Mapping[str, bytes], main: str) -> Daemon:
    """Start a daemon on `files`, whose paths all lie in the folder of `main`, ask for its plugins, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        home = _write(folder, files, main)
        ctr = str(Path(binary).with_name("ctr"))
        command = ["timeout", "-s", "KILL", "30", "unshare", "-m", "-p", "-f", "--kill-child", "sh", "-c", _DAEMON]
        ran = subprocess.run([*command, "judge", binary, ctr, folder, home, main], capture_output=True, check=False)
    words = ran.stderr.decode(errors="replace")
    assert ran.returncode in (0, 1), f"{shlex.join(command[:8])} ended with {ran.returncode}: {words[-2000:]}"
    if ran.returncode:
        return Daemon(False, None, words, {})
    rows = [line.split() for line in ran.stdout.decode().splitlines()[1:]]
    plugins = {f"{row[0]}.{row[1]}": row[-1] for row in rows if row}
    service = plugins.get("io.containerd.grpc.v1.cri")
    parts = [plugins[p] for p in ("io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images") if p in plugins]
    state = "error" if "error" in [service, *parts] else "ok" if service == "ok" else "disabled"
    return Daemon(True, state, words, plugins)


def _write(folder: str, files: Mapping[str, bytes], main: str) -> str:
    """Write the files below FOLDER/files; returns the folder that they pretend to lie in."""
    home = str(Path(main).parent)
    for path, content in files.items():
        assert path.startswith(home + "/"), path
        place = Path(folder, "files", path.removeprefix(home + "/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    Path(folder, "files").mkdir(exist_ok=True)
    return home
