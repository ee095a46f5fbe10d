"""The text in a run's folder that lets a person undo it without gpuwizard: what was done where, and the commands.

It holds no content of any file of a host: the copies are on the hosts. Former objects lie beside it as YAML, redacted
as everything that is shown.
"""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from gpuwizard.clean import clean, clean_line
from gpuwizard.redact import is_redacted
from gpuwizard.run_record import LabelRecord, ObjectRecord, RunHost, RunPart, RunRecord

__all__ = ["manual", "write_manual"]

_RUNS = "/var/lib/gpuwizard/runs"
_ABSENT = "absent"
_STANDS = {
    "refused": "not touched: {}",
    "unreachable": "not touched: {}",
    "unchanged": "not changed: {}",
    "rolled-back": "put back already: {}",
    "reverting": "not confirmed: it reverts by itself ({})",
    "unconfirmed": "not known: {}",
    "failed": "failed: {}",
}


def write_manual(folder: Path, run: RunRecord) -> None:
    """Write README.txt and the former objects into the folder of the run, readable by its owner only."""
    for number, entry in enumerate(_objects(run), start=1):
        if entry.before:
            _write(folder / _file_name(number, entry), entry.before)
    _write(folder / "README.txt", manual(run))


def manual(run: RunRecord) -> str:
    """The whole text."""
    return "".join(f"{line}\n" for line in _lines(run))


def _lines(run: RunRecord) -> Iterator[str]:
    yield f"gpuwizard run {run.id}"
    what = {"rollback": f"put back run {run.rolls_back}", "uninstall": "take gpuwizard's changes back"}
    ended = f"ended {run.finished}" if run.finished else "not ended yet: this was written when it began"
    who = f"{run.user or 'somebody'} on {run.laptop or 'an unknown machine'}"
    yield clean_line(f"{what.get(run.kind, 'apply a plan')}; begun {run.started} by {who}; {ended}", 1000)
    yield ""
    yield from _whole(run)
    if run.labels:
        yield from _title("The nodes' labels, before anything else: the device plugin leaves a node without it")
    for label in run.labels:
        yield f"  {_kubectl(run)} label node {_word(label.node)} {_label(label)}"
    for host in run.hosts:
        yield from _host(run, host)
    yield from _cluster(run)
    if run.cluster_error:
        yield from _title("What the cluster refused")
        yield f"  {clean_line(run.cluster_error, 1000)}"


def _whole(run: RunRecord) -> Iterator[str]:
    if run.kind == "apply":
        yield f"`gpuwizard rollback {run.id}` puts all of it back and checks each step. Without gpuwizard, by hand and"
        yield "in this order:"
    elif run.kind == "uninstall":
        yield "To have the changes again, make a new plan. By hand, this makes undone what the run itself has done:"
    else:
        yield f"These commands do by hand what the run is about: they put back run {run.rolls_back}. How its labels and"
        yield f"objects go back is said in {run.rolls_back}/README.txt beside this folder. On each host the folder of"
        yield f"this run, {_RUNS}/{run.id}, keeps what the run replaced, and README.txt there says how that comes back."


def _title(text: str) -> Iterator[str]:
    yield ""
    yield clean_line(text, 1000)
    yield ""


def _host(run: RunRecord, host: RunHost) -> Iterator[str]:
    stands = host.outcome or ("not known" if run.finished else "not begun or under way")
    words = _STANDS.get(stands, "{}").format(host.reason) if host.outcome in _STANDS else stands
    yield from _title(f"Host {host.name}: {words}")
    for deed in host.does:
        yield f"  it was to {'take back: ' if run.kind == 'rollback' else ''}{clean_line(deed, 1000)}"
    if run.finished and host.outcome in ("refused", "unreachable", "unchanged", "rolled-back"):
        return
    for part in reversed(host.parts):
        yield from _part(part)


def _part(part: RunPart) -> Iterator[str]:
    folder = f"{_RUNS}/{part.id}"
    yield ""
    yield "  As root on the host, how it stands (confirmed: in force; reverted: put back already) and, while it is not"
    yield "  confirmed, what puts it back:"
    yield ""
    yield f"    cat {folder}/state"
    yield f"    sh {folder}/guard.sh undo {part.id}"
    yield ""
    yield f"  Once it is confirmed, as root on the host ({folder}/README.txt says the same there):"
    yield ""
    for command in restore_commands(part):
        yield f"    {command}"


def restore_commands(part: RunPart) -> Iterator[str]:
    """The shell commands that give a host its files back and have the runtime read them."""
    folder = f"{_RUNS}/{part.id}"
    rows = [(*row, "write") for row in part.files] + [(*row, "undo") for row in part.undo]
    for number, (path, before, after, kind) in reversed(list(enumerate(rows, start=1))):
        if kind == "undo" and after != _ABSENT:
            yield f"cat {_word(f'{folder}/after/{number:03d}')} >{_word(path)}"
        elif kind == "undo" or before == _ABSENT:
            yield f"rm -f {_word(path)}"
        else:
            yield f"cp -a {_word(f'{folder}/before/{number:03d}')} {_word(path)}"
    made = f"{folder}/made"
    yield f'[ ! -f {made} ] || sort -r {made} | while read -r folder; do rmdir "$folder"; done'
    if part.unit is None:
        return
    match part.verb:
        case "watched":
            yield f"# nothing to restart: {clean_line(part.unit)} sees the files and restarts its runtime by itself"
        case "snap-restart":
            yield f"snap restart {_word(part.snap or part.unit)}"
        case _:
            yield f"systemctl reset-failed {_word(part.unit)}; systemctl restart {_word(part.unit)}"


def _objects(run: RunRecord) -> tuple[ObjectRecord, ...]:
    """The objects that the run has changed; before it has ended, those that it is about to change."""
    return run.objects if run.finished else run.planned


def _cluster(run: RunRecord) -> Iterator[str]:
    objects = list(enumerate(_objects(run), start=1))
    if not objects:
        return
    yield from _title(f"The cluster's objects{f' ({run.server})' if run.server else ''}, when every host is back:")
    hidden = False
    for number, entry in reversed(objects):
        key = entry.key
        where = f" --namespace {_word(key.namespace)}" if key.namespace else ""
        if entry.before:
            hidden = hidden or is_redacted(entry.before)
            verb = "replace" if entry.after else "create"
            yield f"  {_kubectl(run)} {verb} -f {_word(_file_name(number, entry))}"
        else:
            yield f"  {_kubectl(run)} delete {_word(key.kind.lower())} {_word(key.name)}{where}"
    if hidden:
        yield "  Where a file says ‹redacted›, a secret was left out: fill it in first."


def _file_name(number: int, entry: ObjectRecord) -> str:
    words = [entry.key.kind, entry.key.namespace, entry.key.name]
    name = "-".join("".join(c if c.isalnum() or c in "-." else "_" for c in word) for word in words if word)
    return f"before-{number}-{name}.yaml"


def _label(label: LabelRecord) -> str:
    if label.before is None:
        return _word(f"{label.key}-")
    return f"--overwrite {_word(f'{label.key}={label.before}')}"


def _kubectl(run: RunRecord) -> str:
    chosen = run.answers.kubernetes
    words = [f"--kubeconfig {_word(chosen.kubeconfig)}"] if chosen.kubeconfig else []
    words += [f"--context {_word(chosen.context)}"] if chosen.context else []
    return " ".join(["kubectl", *words])


def _word(text: str) -> str:
    return shlex.quote(clean(text))


def _write(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
