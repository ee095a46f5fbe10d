"""Looking for planted secrets wherever a program may leave them: texts, files, command lines and environments."""

import base64
import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["Sampler", "found_in", "found_in_files", "shapes"]


def shapes(secret: str) -> tuple[bytes, ...]:
    """The secret itself, and what is left of it inside any base64 text, at each of its three alignments."""
    raw = secret.encode()
    inside = []
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        inside.append(coded[(0, 2, 3)[shift] : -1 or None].encode())
    return raw, *inside


def found_in(data: bytes | str, secrets: Mapping[str, str]) -> list[str]:
    """The names of the secrets that stand in a text."""
    raw = data.encode() if isinstance(data, str) else data
    return [name for name, secret in secrets.items() if any(shape in raw for shape in shapes(secret))]


def found_in_files(folder: Path, secrets: Mapping[str, str]) -> list[str]:
    """Which files below a folder hold which secret."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [f"{name} in {path.relative_to(folder)}" for path in files for name in found_in(path.read_bytes(), secrets)]


class Sampler:
    """Reads the command line and the environment of every process of this machine, again and again, while it runs.

    What the test itself starts may be handed a secret in its environment: that of such a process is looked at only once
    it is in `settled`.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._shapes = {name: shapes(secret) for name, secret in secrets.items()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.settled: set[int] = set()
        self.hits: set[str] = set()
        self.looks = 0
        self.seen: set[str] = set()

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(0.005):
            for pid in self._others():
                for what in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        if what == "environ" and pid not in self.settled and _parent(pid) == os.getpid():
                            continue
                        self._look(pid, what, Path(f"/proc/{pid}/{what}").read_bytes())
            self.looks += 1

    def _look(self, pid: int, what: str, data: bytes) -> None:
        if what == "cmdline":
            self.seen.add(data.split(b"\0")[0].decode("utf-8", "replace").rpartition("/")[2])
        for name, forms in self._shapes.items():
            if any(form in data for form in forms):
                self.hits.add(f"{name} in the {what} of a process: {data[:60]!r}")

    @staticmethod
    def _others() -> Iterator[int]:
        own = os.getpid()
        return (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and int(p.name) != own)


def _parent(pid: int) -> int:
    """The process that started another one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
