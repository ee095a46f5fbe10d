"""What a host's own run folders say: the runs of ours that still stand there, and the bytes to go back to."""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gpuwizard.clean import clean_line
from gpuwizard.errors import GpuwizardError
from gpuwizard.secret import SecretBytes

__all__ = ["ABSENT", "HostHistory", "OpenRun", "PastRow", "PastRun", "history_in"]

ABSENT = "absent"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_WHO = re.compile(r", run [^,]*,")


@dataclass(frozen=True, slots=True)
class PastRow:
    """One file of a run: sha256 before and after (``absent``: no such file). `kind` is ``write``, or ``undo`` for an
    edit that only stood by for a revert. `target` is `path` without symlinks, as the run found it."""

    kind: str
    before: str
    after: str
    mode: int
    target: str
    path: str


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run whose change stands. `params` are those it was made with, `rows` its files in the order of writing."""

    id: str
    state: str
    params: Mapping[str, str]
    rows: tuple[PastRow, ...]

    @property
    def who(self) -> str:
        """``run 2026… (ada on laptop, since 2026-11-21 01:14:00 UTC)``: who made it, from where, when."""
        by = clean_line(_WHO.sub(",", self.params.get("by", "")))
        return f"run {self.id} ({by})" if by else f"run {self.id}"


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that is not over; `seconds` until the host reverts it by itself."""

    id: str
    state: str
    seconds: int


@dataclass(frozen=True, slots=True)
class HostHistory:
    """All of it for one host. `runs` stand, the newest first; `have` is the sha256 of each target now; `contents` are
    bytes by sha256."""

    runs: tuple[PastRun, ...] = ()
    open: tuple[OpenRun, ...] = ()
    have: Mapping[str, str] = field(default_factory=dict)
    contents: Mapping[str, SecretBytes] = field(default_factory=dict)


def history_in(lines: Iterable[str]) -> HostHistory:
    """Read what the guard's role ``history`` printed. Raises GpuwizardError when it is not whole."""
    runs: list[tuple[str, str, dict[str, str], list[PastRow]]] = []
    open_runs: list[OpenRun] = []
    have: dict[str, str] = {}
    pieces: dict[str, list[str]] = {}
    whole = False
    try:
        for line in lines:
            kind, _, rest = line.partition(" ")
            match kind:
                case "@run":
                    name, state = rest.split(" ")
                    runs.append((_id(name), state, {}, []))
                case "@open":
                    name, state, seconds = rest.split(" ")
                    open_runs.append(OpenRun(_id(name), state, int(seconds)))
                case "@param":
                    key, _, value = rest.partition("=")
                    runs[-1][2].setdefault(key, value)
                case "@row":
                    runs[-1][3].append(_row(rest))
                case "@have":
                    sha, target = rest.split("\t")
                    have[target] = sha
                case "@bytes":
                    sha, piece = rest.split(" ")
                    pieces.setdefault(sha, []).append(piece)
                case "@end":
                    whole = True
                case _:
                    pass
        contents = {sha: SecretBytes(base64.b64decode("".join(parts))) for sha, parts in pieces.items()}
    except (ValueError, IndexError, binascii.Error) as error:
        raise GpuwizardError(
            "the run folders of the host cannot be read",
            remedy="look at /var/lib/gpuwizard/runs there; each README.txt says how to put its run back by hand",
        ) from error
    if not whole:
        raise GpuwizardError("the host did not tell its runs to the end", remedy="try again")
    past = tuple(PastRun(name, state, params, tuple(rows)) for name, state, params, rows in runs)
    return HostHistory(past, tuple(open_runs), have, contents)


def _id(text: str) -> str:
    if not _RUN_ID.fullmatch(text):
        raise ValueError(text)
    return text


def _row(text: str) -> PastRow:
    _, kind, before, after, mode, target, path = text.split("\t")
    return PastRow(kind, before, after, int(mode, 8), target, path)
