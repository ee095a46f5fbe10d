"""The difference between two effective configurations in words that an operator knows, and what would be lost."""

from collections.abc import Iterable, Mapping
from typing import Any

from gpuwizard.actions import EffectiveChange
from gpuwizard.containerd.model import CRI_V2, IMAGES_V3, RUNTIME_V3, Effective
from gpuwizard.facts.model import Handler

__all__ = ["compare", "losses"]

_CGROUP = "SystemdCgroup"
_RUNC_TYPE = "io.containerd.runc.v2"
_NAMED = (
    ("default handler", "default_runtime_name"),
    ("sandbox image", "sandbox_image"),
    ("snapshotter", "snapshotter"),
    ("registry folder", "registry_config_path"),
    ("CDI", "enable_cdi"),
    ("CDI folders", "cdi_spec_dirs"),
    ("cgroup driver", "cgroup_driver"),
    ("disabled plugins", "disabled_plugins"),
)


def compare(before: Effective, after: Effective) -> tuple[EffectiveChange, ...]:
    """Every difference, named for people: ``handler nvidia``, ``handler nvidia.SystemdCgroup``, ``default handler``,
    ``sandbox image``, ``registry folder``, ``CNI bin_dir``, …; other plugin settings by their dotted path.

    None stands for "not there". Values of the settings may be secrets: whoever shows them redacts them.
    """
    named: list[EffectiveChange] = []
    named += _state(before, after)
    named += _handlers(before, after)
    for key, attribute in _NAMED:
        named += _one(key, getattr(before, attribute), getattr(after, attribute))
    for key in sorted({*before.cni, *after.cni}):
        named += _one(f"CNI {key}", before.cni.get(key), after.cni.get(key))
    return (*named, *_other(before.settings, after.settings))


def losses(
    before: Effective, after: Effective, announced: Iterable[EffectiveChange] = ()
) -> tuple[EffectiveChange, ...]:
    """What `after` changes or drops although it was not `announced`: any handler or option that vanishes or differs,
    another default handler, sandbox image, snapshotter, registry, CNI, CDI or other plugin setting.

    Something new (before None) is no loss. A daemon or CRI plugin that no longer works always is.
    """
    expected = {(c.key, c.before, c.after) for c in announced}
    return tuple(
        c for c in compare(before, after) if c.before is not None and (c.key, c.before, c.after) not in expected
    )


def _state(before: Effective, after: Effective) -> Iterable[EffectiveChange]:
    return _one("CRI plugin", _state_word(before), _state_word(after))


def _state_word(state: Effective) -> str:
    if not state.starts:
        return f"containerd does not start: {state.error}"
    return f"{state.cri}: {state.error}" if state.error else str(state.cri)


def _handlers(before: Effective, after: Effective) -> Iterable[EffectiveChange]:
    for name in sorted({*before.runtimes, *after.runtimes}):
        old, new = before.runtimes.get(name), after.runtimes.get(name)
        note = _beside(name, after) if old is None or _driver(old) != _driver(new) else None
        yield from _one(
            f"handler {name}", old and (old.runtime_type or "no type"), new and (new.runtime_type or "no type"), note
        )
        options = ({**old.options} if old else {}, {**new.options} if new else {})
        for option in sorted({*options[0], *options[1]}):
            told = note if option == _CGROUP else None
            yield from _one(f"handler {name}.{option}", options[0].get(option), options[1].get(option), told)


def _beside(name: str, state: Effective) -> str | None:
    """Whether the handler has the cgroup driver of runc, else of the default handler: they have to be the same
    (`runtimes.md §1.4`)."""
    model = next((n for n in ("runc", state.default_runtime_name or "") if n != name and n in state.runtimes), None)
    own, other = _driver(state.runtimes.get(name)), _driver(state.runtimes.get(model or ""))
    if own is None or other is None:
        return None
    return f"same cgroup driver as {model}" if own == other else f"cgroup driver {own}, but that of {model} is {other}"


def _driver(handler: Handler | None) -> str | None:
    """The cgroup driver of a handler of runc's type; other types have none of this kind."""
    if handler is None or handler.runtime_type != _RUNC_TYPE:
        return None
    return "systemd" if handler.options.get(_CGROUP) is True else "cgroupfs"


def _other(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[EffectiveChange]:
    """Plugin settings that have no name of their own above."""
    for path in sorted({*before, *after}):
        if not _has_name(path):
            yield from _one(path, before.get(path), after.get(path))


def _has_name(path: str) -> bool:
    named = (
        "containerd.default_runtime_name",
        "containerd.snapshotter",
        "sandbox_image",
        "pinned_images.sandbox",
        "snapshotter",
        "registry.config_path",
        "enable_cdi",
        "cdi_spec_dirs",
    )
    for plugin in (CRI_V2, RUNTIME_V3, IMAGES_V3, "cri"):
        rest = path.removeprefix(plugin + ".")
        if rest == path:
            continue
        if rest in named or rest.startswith("cni."):
            return True
        parts = rest.split(".")
        return parts[:2] == ["containerd", "runtimes"] and (parts[-1] == "runtime_type" or "options" in parts)
    return False


def _one(key: str, before: object, after: object, note: str | None = None) -> Iterable[EffectiveChange]:
    old, new = _words(before), _words(after)
    if old != new:
        yield EffectiveChange(key, old, new, note)


def _words(value: object) -> str | None:
    match value:
        case None | "" | ():
            return None
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ", ".join(str(v) for v in value)
        case _:
            return str(value)
