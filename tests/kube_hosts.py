"""Probes of hosts with any Kubernetes: the captured machine with other services, files and programs on it."""

import base64
from collections.abc import Mapping

from gpuwizard.facts.frames import read_frames
from gpuwizard.facts.model import Probe
from gpuwizard.facts.parse import parse_probe
from tests.captured import CAPTURE

NOW = 1_790_000_000
"""When the files were written and the services started, unless said otherwise."""
_REPLACED = (
    "units", "process", "containerd", "kubelet", "kubernetes", "file", "path-programs", "programs", "docker", "crio",
    "toolkit-runtime", "toolkit-programs", "end",
)  # fmt: skip


def frame(name: str, text: str, status: int = 0) -> bytes:
    return f"@@ {name} {status} {len(text.encode())}\n{text}\n".encode()


def unit(name: str, argv: str = "", active: str = "active", sub: str = "running", **more: str) -> str:
    """A block of ``systemctl show``."""
    lines = "".join(f"{key}={text}\n" for key, text in more.items())
    start = f"{{ path=x ; argv[]={argv} ; ignore_errors=no }}"
    return f"Id={name}\nLoadState=loaded\nActiveState={active}\nSubState={sub}\nExecStart={start}\n{lines}"


def host(
    *units: str,
    files: Mapping[str, str | tuple[str, int]] | None = None,
    marks: tuple[str, ...] = (),
    toolkit: str | None = "/usr/bin/nvidia-container-runtime",
    installed: int = NOW - 1000,
    root: bool = True,
    **sections: str,
) -> Probe:
    """The captured machine, ready but for what is given here.

    `files` maps a path to its text, or to text and time; `toolkit` is where the runtime lies, `installed` when it was
    put there. `sections` are further sections of the probe, ``_`` for ``-`` and ``__`` for the colon.
    """
    given = tuple(name.partition("__")[0].replace("_", "-") for name in sections)
    kept = [s for s in read_frames(CAPTURE).sections if not s.name.startswith((*_REPLACED, *given))]
    raw = b"".join(b"@@ %s%s %d %d\n%s\n" % (
        s.name.encode(), f":{s.key}".encode() if s.key else b"", s.status if root or s.name != "privilege" else 0,
        len(s.data), s.data) for s in kept)  # fmt: skip
    stats = []
    if toolkit is not None:
        raw += frame("toolkit-runtime", toolkit)
        raw += frame("toolkit-programs", f"nvidia-container-runtime={toolkit}\n")
        stats.append(f"755 0 0 1 {installed} 100 {toolkit}")
    for path, content in (files or {}).items():
        text, written = content if isinstance(content, tuple) else (content, NOW)
        stats.append(f"644 0 0 {written} {written} {len(text.encode())} {path}")
        raw += frame(f"file:{path}", base64.b64encode(text.encode()).decode())
    raw += frame("file-stats", "\n".join(stats))
    raw += frame("units", "\n".join(units)) + frame("kubernetes-marks", "\n".join(marks))
    for name, text in sections.items():
        raw += frame(name.replace("__", ":").replace("_", "-"), text)
    return parse_probe(raw + frame("end", ""))
