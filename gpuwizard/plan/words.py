"""What a change means to the container runtime, in words that a person reads in five seconds.

One function for every front end: `effects` says what changes and, of the default handler and all the rest, also
that it does not. Values are redacted and cleaned here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gpuwizard.actions import Action, Check, EffectiveChange, Restart, WriteFile
from gpuwizard.clean import clean_line
from gpuwizard.redact import redact_value

__all__ = ["MARKS", "Effect", "effects", "effects_of"]

Kind = Literal["added", "removed", "changed", "unchanged"]
MARKS: dict[Kind, str] = {"added": "+", "removed": "-", "changed": "~", "unchanged": "="}
"""One character a kind: no meaning is carried by a colour alone."""

_HANDLER, _DEFAULT, _CDI = "handler ", "default handler", "CDI"
_RUNC_TYPE = "io.containerd.runc.v2"
_PLAIN_TYPES = (_RUNC_TYPE, "oci", "runc")
"""The types of containerd, CRI-O and Docker that go without saying."""
_CGROUP = "SystemdCgroup"
_BINARIES = ("BinaryName", "runtime_path", "path")
_PLUGINS = (
    "io.containerd.grpc.v1.cri.",
    "io.containerd.cri.v1.runtime.",
    "io.containerd.cri.v1.images.",
    "cri.",
)
_MOST_OTHERS = 4
_LONGEST = 120
_LISTS = {"disabled plugins": ("disables", "no longer disables"), "CDI folders": ("also", "no longer")}


@dataclass(frozen=True, slots=True)
class Effect:
    """One statement: ``handler nvidia``, and what becomes of it."""

    kind: Kind
    subject: str
    words: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.words}"


def effects_of(actions: Iterable[Action]) -> tuple[Effect, ...]:
    """The effects of the actions of one host; none when no file and no runtime is touched, or when
    what comes of it is not known."""
    changes: list[EffectiveChange] = []
    check: Check | None = None
    touched = False
    for action in actions:
        if isinstance(action, WriteFile) and not action.told:
            return ()
        if isinstance(action, WriteFile | Restart):
            touched = True
            changes += action.effective
        if isinstance(action, Restart):
            check = action.check
    return effects(changes, check) if touched else ()


def effects(changes: Sequence[EffectiveChange], check: Check | None = None) -> tuple[Effect, ...]:
    """Every change in words: handlers first, then the default handler, CDI, the other named settings, and settings
    without a name; at last that all else stays. `check` names the handlers and the default handler afterwards."""
    rest = {change.key: change for change in changes}
    told: list[Effect] = []
    for name in _handlers(rest, check.handlers if check else ()):
        told.append(_handler(name, _taken(rest, name)))
    told.append(_default(rest.pop(_DEFAULT, None), check.default_handler if check else None))
    if _CDI in rest:
        told.append(_cdi(rest.pop(_CDI)))
    unnamed = [key for key in rest if "." in key and " " not in key.partition(".")[0]]
    told += [_named(rest.pop(key)) for key in list(rest) if key not in unnamed]
    told += _unnamed([rest[key] for key in unnamed])
    return (*told, Effect("unchanged", "everything else", "unchanged"))


def _handlers(changes: Mapping[str, EffectiveChange], known: Iterable[str]) -> list[str]:
    """The handlers that the keys are about. ``handler a.B`` is option B of handler a, unless there is a handler of
    that name or the value is a handler's type; options begin with a capital letter."""
    names = set(known)
    found: dict[str, None] = {}
    for key, change in changes.items():
        if key.startswith(_HANDLER):
            name = key.removeprefix(_HANDLER)
            head, dot, option = name.rpartition(".")
            has_type = (change.after or change.before or "").startswith("io.containerd.")
            is_option = dot and name not in names and (option[:1].isupper() or (head in names and not has_type))
            found[head if is_option else name] = None
    return list(found)


def _taken(rest: dict[str, EffectiveChange], name: str) -> dict[str, EffectiveChange]:
    """The changes of one handler, taken out of `rest`: by option, its type under the empty name; other settings of
    its table too."""
    own: dict[str, EffectiveChange] = {}
    tables = [f"{p}containerd.runtimes.{n}." for p in _PLUGINS for n in (name, f'"{name}"')]
    for key in list(rest):
        if key == _HANDLER + name:
            own[""] = rest.pop(key)
        elif key.startswith(f"{_HANDLER}{name}."):
            own[key.removeprefix(f"{_HANDLER}{name}.")] = rest.pop(key)
        else:
            table = next((t for t in tables if key.startswith(t)), None)
            if table is not None:
                own[key.removeprefix(table)] = rest.pop(key)
    return own


def _handler(name: str, own: dict[str, EffectiveChange]) -> Effect:
    subject = clean_line(f"{_HANDLER}{name}")
    kind = own.pop("", None)
    if kind is not None and kind.after is None:
        return Effect("removed", subject, "removed")
    if kind is None or kind.before is not None:
        return Effect("changed", subject, ", ".join(_parts(kind, own)))
    cgroup, note = own.pop(_CGROUP, None), kind.note
    if note is None and kind.after == _RUNC_TYPE:
        note = f"cgroup driver {_driver(cgroup.after if cgroup else None)}"
    for option in _BINARIES:
        own.pop(option, None)
    parts = ["added"] if kind.after in _PLAIN_TYPES else [f"added, type {_value(kind, kind.after)}"]
    parts += [note] if note else []
    parts += [f"{clean_line(option)} {_value(c, c.after)}" for option, c in own.items() if c.after is not None]
    return Effect("added", subject, ", ".join(parts))


def _parts(kind: EffectiveChange | None, own: dict[str, EffectiveChange]) -> Iterator[str]:
    """What changes of a handler that stays."""
    if kind is not None:
        yield f"type {_arrow(kind)}"
    for option, change in own.items():
        if option == _CGROUP:
            note = f" ({change.note})" if change.note else ""
            yield f"cgroup driver {_driver(change.before)} → {_driver(change.after)}{note}"
        elif option in _BINARIES:
            yield f"binary {_arrow(change)}"
        else:
            yield f"{clean_line(option)} {_arrow(change)}"


def _driver(systemd: str | None) -> str:
    return "systemd" if systemd == "true" else "cgroupfs"


def _default(change: EffectiveChange | None, after: str | None) -> Effect:
    if change is None:
        words = f"{clean_line(after)}, unchanged" if after else "unchanged"
        return Effect("unchanged", _DEFAULT, words)
    new, old = _value(change, change.after), _value(change, change.before)
    if change.after is None:
        return Effect("removed", _DEFAULT, f"none any more, was {old}")
    if change.before is None:
        return Effect("added", _DEFAULT, new)
    words = f"{new} again, was {old}" if change.before == "nvidia" else f"{new}, was {old}"
    return Effect("changed", _DEFAULT, words)


def _cdi(change: EffectiveChange) -> Effect:
    if "true" in (change.before, change.after):
        on = change.after == "true"
        return Effect("added" if on else "removed", _CDI, "switched on" if on else "switched off")
    return Effect("changed", _CDI, _arrow(change))


def _named(change: EffectiveChange) -> Effect:
    subject = clean_line(change.key)
    if change.key in _LISTS:
        more, less = _LISTS[change.key]
        old, new = _names(change.before), _names(change.after)
        coming, going = [n for n in new if n not in old], [n for n in old if n not in new]
        parts = [f"{word} {', '.join(names)}" for word, names in ((more, coming), (less, going)) if names]
        if parts:
            return Effect("changed", subject, _shown(change, ", ".join(parts)))
    if change.key == "CRI plugin":
        return Effect("changed", subject, f"{_value(change, change.after)}, was {_value(change, change.before)}")
    kind: Kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    return Effect(kind, subject, _arrow(change))


def _names(value: str | None) -> list[str]:
    return [name for name in (value or "").split(", ") if name]


def _unnamed(changes: Sequence[EffectiveChange]) -> Iterator[Effect]:
    """Settings by their path, without the plugin's long name; many of them as a number."""
    if not changes:
        return
    shown = [f"{_short(c.key)} {_arrow(c)}" for c in changes[:_MOST_OTHERS]]
    more = len(changes) - len(shown)
    subject = "other setting" if len(changes) == 1 else f"{len(changes)} other settings"
    yield Effect("changed", subject, ", ".join(shown) + (f" and {more} more" if more else ""))


def _short(key: str) -> str:
    plugin = next((p for p in _PLUGINS if key.startswith(p)), "")
    return clean_line(key.removeprefix(plugin))


def _arrow(change: EffectiveChange) -> str:
    """``old → new``; a value that comes or goes is told as such."""
    if change.before is None:
        return f"set to {_value(change, change.after)}"
    if change.after is None:
        return f"dropped, was {_value(change, change.before)}"
    return f"{_value(change, change.before)} → {_value(change, change.after)}"


def _value(change: EffectiveChange, value: str | None) -> str:
    return _shown(change, value or "")


def _shown(change: EffectiveChange, text: str) -> str:
    return clean_line(redact_value(change.key, text), _LONGEST)
