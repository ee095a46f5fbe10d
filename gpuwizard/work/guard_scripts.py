"""The scripts of a guarded change as they travel to the host: joined, with their payloads, and their answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from assets import asset
from gpuwizard.actions import Check, FileChange
from gpuwizard.clean import clean_line
from gpuwizard.errors import RefusedError
from gpuwizard.remote.transport import Payload, Script

__all__ = [
    "GuardedChange",
    "HostState",
    "call",
    "history_script",
    "host_state",
    "lock_script",
    "prepare_payloads",
    "prepare_words",
    "stored_guard",
]

_PARTS = (
    "guard-state.sh",
    "guard-files.sh",
    "guard-kept.sh",
    "guard-why.sh",
    "guard-cause.sh",
    "guard-health.sh",
    "guard-judge.sh",
    "guard-undo.sh",
    "guard-manual.sh",
    "guard-prepare.sh",
    "guard-change.sh",
    "guard-arm.sh",
    "guard.sh",
)
_PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class GuardedChange:
    """One change of one host, ready to be handed over.

    `undo` are the edits that a revert of a restart-only change makes. `timeout` is T: seconds until the host reverts
    by itself; `limit` how long the unit may take to come up; `hold` how long it must then stay up. `verb` and `snap`
    say how the change is made live (see `Activation`). `restores` names the earlier runs whose files are put back, the
    newest first (then `files` is empty: the host has the bytes); `aims`, when given, are the (sha256 before, after,
    path) that this must come to, as a plan that was reviewed says.
    """

    run_id: str
    by: str
    files: tuple[FileChange, ...] = ()
    undo: tuple[FileChange, ...] = ()
    unit: str | None = None
    verb: str = "restart"
    snap: str | None = None
    check: Check | None = None
    reads: Mapping[str, str] = field(default_factory=dict)
    boot_id: str | None = None
    timeout: int = 300
    limit: int = 90
    hold: int = 30
    restores: tuple[str, ...] = ()
    aims: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class HostState:
    """What the host's own state file says of a run.

    `word` is ``none`` when the host knows nothing of it. `deadline` is in how many seconds of the host it reverts by
    itself (None: no revert is armed). `stopped`: the script that PID 1 ran is gone although it had not finished.
    `rebooted`: the host was restarted since the revert was armed.
    """

    word: str
    reason: str = ""
    deadline: int | None = None
    failure: str = ""
    stopped: bool = False
    rebooted: bool = False


def guard_text() -> str:
    """The whole guard as one script text with a `main`."""
    return "\n".join(asset(f"remote/{part}").read_text(encoding="utf-8") for part in _PARTS)


def stored_guard() -> bytes:
    """The guard as it lies in the run folder: ``sh guard.sh ROLE RUN …``; cut anywhere it runs nothing."""
    head = (
        "{ LC_ALL=C; export LC_ALL; R=${GPUWIZARD_FLEET_ROOT-}\n"
        f'[ -n "$R" ] || PATH="${{PATH:+$PATH:}}{_PATHS}"; export PATH\n'
    )
    return f'{head}{guard_text()}\nmain "$@"\nexit "$?"\n}}\n'.encode()


def prepare_words(change: GuardedChange) -> tuple[str, ...]:
    """The call that checks, backs up, stages and judges; nothing is changed by it."""
    return ("prepare", *((" ".join(change.restores),) if change.restores else ()))


def prepare_payloads(change: GuardedChange) -> tuple[Payload, ...]:
    """What `prepare_words` needs on the host: the guard, its parameters, the bytes."""
    plugins = asset("remote/plugins.pl").read_bytes()
    payloads = [
        Payload("guard.sh", stored_guard()),
        Payload("plugins.pl", plugins),
        Payload("params", _params(change)),
    ]
    rows = [("write", file) for file in change.files] + [("undo", file) for file in change.undo]
    if not change.restores:
        payloads.append(Payload("files", _table(rows)))
    if change.aims:
        payloads.append(Payload("aims", _lines((*shas, _plain(path)) for *shas, path in change.aims)))
    if change.reads:
        payloads.append(Payload("reads", _lines((sha, _plain(path)) for path, sha in sorted(change.reads.items()))))
    for number, (_, file) in enumerate(rows, start=1):
        if file.after is not None:
            payloads.append(Payload(f"after-{number:03d}", file.after.raw))
    return tuple(payloads)


def call(role: str, run_id: str, *arguments: str) -> Script:
    """Call the guard that `prepare` left on the host, by a channel of its own."""
    return Script(asset("remote/call.sh").read_text(encoding="utf-8"), (role, run_id, *arguments))


def history_script() -> Script:
    """Tell what runs stand on the host, with the bytes of their files; nothing is changed by it."""
    return Script(guard_text(), ("history", "none"))


def lock_script(run_id: str, owner: str, payloads: tuple[Payload, ...] = ()) -> Script:
    """Hold the host's run lock and call the guard meanwhile; `owner` is the text that others are shown."""
    return Script(asset("remote/lock.sh").read_text(encoding="utf-8"), (run_id, clean_line(owner, 300)), payloads)


def host_state(lines: Iterable[str]) -> HostState | None:
    """Read the lines of ``status`` (or of anything that ends with it). None when there is no state in them."""
    word, reason, failure = None, "", ""
    deadline: int | None = None
    stopped = rebooted = False
    for line in lines:
        kind, _, rest = line.partition(" ")
        match kind:
            case "@state":
                word, _, tail = rest.partition(" ")
                reason = tail.partition(" ")[2].strip()
            case "@deadline":
                deadline = int(rest) if rest.lstrip("-").isdigit() else None
            case "@failure":
                failure = rest
            case "@stopped":
                stopped = True
            case "@rebooted":
                rebooted = True
            case _:
                pass
    return HostState(word, reason, deadline, failure, stopped, rebooted) if word else None


def _params(change: GuardedChange) -> bytes:
    check = change.check
    values = {
        "by": change.by,
        "boot": change.boot_id,
        "unit": change.unit,
        "verb": change.verb if change.unit else None,
        "snap": change.snap,
        "timeout": str(change.timeout),
        "limit": str(change.limit),
        "hold": str(change.hold),
        "cri": "ok",
        "handlers": " ".join(check.handlers) if check else None,
        "default": check.default_handler if check else None,
        "socket": check.cri_socket if check else None,
        "binary": check.binary if check else None,
        "config": check.config_path if check else None,
        "rendered": check.rendered if check else None,
        "kind": check.kind if check else None,
        "options": " ".join(option for option in check.options if " " not in option) if check else None,
    }
    return "".join(f"{key}={_plain(value)}\n" for key, value in values.items() if value).encode()


def _table(rows: Iterable[tuple[str, FileChange]]) -> bytes:
    return _lines(
        (kind, _sha(file, "before"), _sha(file, "after"), f"{file.mode:04o}", f"{number:03d}", _plain(file.path))
        for number, (kind, file) in enumerate(rows, start=1)
    )


def _sha(file: FileChange, which: str) -> str:
    content = file.before if which == "before" else file.after
    return "absent" if content is None else content.sha256


def _lines(rows: Iterable[tuple[str, ...]]) -> bytes:
    return "".join("\t".join(row) + "\n" for row in rows).encode("utf-8", "surrogateescape")


def _plain(text: str) -> str:
    """The text itself, when it fits on a line of a table. Raises RefusedError for tabs, newlines and other controls."""
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise RefusedError(f"a path or name with control characters is not touched: {clean_line(text)}")
    return text
