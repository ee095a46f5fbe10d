"""The refusals that all flavours share: a host in no state to be changed, files that belong to somebody else, and an
outcome that would be worse than what is there (`safety.md`, step 4; `runtimes.md §10.6`, `§11`).

Every refusal has an id, a reason and a remedy; assets/docs/refusals.md lists them all. No flag and no answer overrides
one. What a plan is there for (handler nvidia, the default handler, CDI, a conversion with consent) is announced
by it, and only what is not announced refuses.
"""

from collections.abc import Callable, Iterable, Iterator

from gpuwizard.actions import EffectiveChange, HostPlanned, Refusal
from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, losses
from gpuwizard.facts.model import Probe
from gpuwizard.flavours.handler import NAME, is_right, wanted_handler
from gpuwizard.redact import redact_value

__all__ = [
    "announced_changes",
    "drop_in_refusal",
    "host_refusals",
    "live_refusal",
    "operator_manages",
    "outcome_refusals",
    "refused",
]

_REMOVED_SHIMS = ("io.containerd.runtime.v1.linux", "io.containerd.runc.v1")


def refused(strategy: str, *refusals: Refusal) -> HostPlanned:
    """The answer for a host that is not changed because of `refusals`."""
    return HostPlanned(strategy, refusals[0].why, refusals=refusals)


def host_refusals(probe: Probe) -> tuple[Refusal, ...]:
    """Why nothing may be changed on this host whatever its flavour; empty when it is in order.

    Only what is known to be wrong refuses, except that driver, toolkit and files must be known to be there.
    """
    facts = probe.facts
    found: list[Refusal] = []
    if facts.os.immutable or facts.os.kind in ("wsl1", "wsl2") or facts.os.family in ("talos", "flatcar", "nixos"):
        system = facts.os.pretty_name or facts.os.id or facts.os.kind
        found.append(
            Refusal(
                "immutable-os",
                f"{system} does not keep changes to its files",
                "configure it the way its vendor describes: a machine configuration, an extension, an image",
            )
        )
    if facts.state.systemd is False:
        found.append(
            Refusal(
                "no-systemd",
                "the host runs without systemd: nothing could restart its runtime, or revert the change in time",
                "change this host by hand: `gpuwizard plan` of a host like it shows what to write",
            )
        )
    if not probe.readable:
        found.append(
            Refusal(
                "no-root",
                f"root is needed to read and change the runtime's files: {facts.privilege.reason or 'no sudo'}",
                "log in as root, allow sudo, or give the sudo password (-K)",
            )
        )
    if facts.driver.problem:
        found.append(
            Refusal(
                "no-driver",
                f"the NVIDIA driver does not work: {clean_line(facts.driver.problem)}",
                "repair the driver first; `gpuwizard check` says what is wrong with it",
            )
        )
    elif facts.driver.loaded is None:
        found.append(Refusal("no-driver", "no NVIDIA driver is loaded", "install the driver, reboot, and plan again"))
    if facts.toolkit.runtime_path is None:
        found.append(
            Refusal(
                "no-toolkit",
                "nvidia-container-runtime is not installed",
                "install the package nvidia-container-toolkit, then plan again",
            )
        )
    return tuple(found)


def operator_manages(probe: Probe) -> Refusal | None:
    """The GPU Operator's toolkit pod writes the same handler: never both (`runtimes.md §10`, §11 trap 19)."""
    if probe.facts.operator.toolkit_pod != "running":
        return None
    return Refusal(
        "operator-manages",
        "the GPU Operator's toolkit pod manages this node's runtime: both would write handler nvidia",
        "leave this host to the operator (strategy none), or set toolkit.enabled=false in the operator's values",
    )


def live_refusal(live: Iterable[str], planned: HostPlanned) -> Refusal | None:
    """A handler that the running runtime offers (`live`, as the node's status lists them) and the planned one would not
    offer: pods may run under it, whatever the files on the disk say by now."""
    check = planned.change.check
    if check is None or planned.change.activation is None:
        return None
    gone = sorted({clean_line(name) for name in live if name} - set(check.handlers))
    if not gone:
        return None
    return Refusal(
        "running-handler",
        f"the node offers handler {', '.join(gone)} now, and would not after the restart: pods that run under it could "
        "not start again",
        "put that handler into the runtime's files, or move its pods away and restart the runtime yourself",
    )


def drop_in_refusal(path: str, main: str, after: Effective) -> Refusal | None:
    """The drop-in `path` would not be read, so that nothing in it would have an effect."""
    if path in after.files or not after.starts:
        return None
    return Refusal(
        "drop-in-unread",
        f"{clean_line(path)} would not be read: no import of {clean_line(main)} finds it",
        "take strategy in-place, or name the drop-in in imports yourself and plan again",
    )


def announced_changes(
    changes: tuple[EffectiveChange, ...], default: str | None, *, cdi: bool = False
) -> tuple[EffectiveChange, ...]:
    """What of `changes` the plan is there for: handler nvidia, the default handler where one is asked for, and CDI
    where it is switched on."""
    keys = {f"handler {NAME}", *(["default handler"] if default is not None else []), *(["CDI"] if cdi else [])}
    return tuple(c for c in changes if c.key in keys or c.key.startswith(f"handler {NAME}."))


def outcome_refusals(
    before: Effective,
    after: Effective,
    runtime_path: str,
    default: str | None,
    announced: tuple[EffectiveChange, ...],
    *,
    right: bool | None = None,
) -> tuple[Refusal, ...]:
    """Why the planned outcome must not be: the daemon or CRI broken, the handler missing or wrong, another default
    handler than planned, or something lost that the plan does not announce (`safety.md`, step 4). `right` is the
    flavour's own word on handler nvidia, where another measure than containerd's holds."""
    broken = _broken(after)
    if broken is not None:
        return (broken,)
    if right is None:
        right = is_right(after.runtimes.get(NAME), wanted_handler(after, runtime_path))
    found = list(_without_effect(after, default, right=right))
    found += _removed_shims(before, after)
    found += _lost(losses(before, after, announced))
    return tuple(found)


def _broken(after: Effective) -> Refusal | None:
    """The three that nothing overrides: no service, no default handler, no CRI."""
    error = clean_line(after.error or "")
    if not after.starts:
        return Refusal(
            "would-not-start",
            f"the service would not start with this change: {error}",
            "repair what the message names, then plan again",
        )
    if after.default_runtime_name and after.default_runtime_name not in after.runtimes and after.cri != "disabled":
        return Refusal(
            "default-undefined",
            f"the default handler {clean_line(after.default_runtime_name)} would not be defined: the CRI plugin "
            "refuses such a configuration and the node goes NotReady",
            "define that handler, or name another one in default_runtime_name, then plan again",
        )
    if after.cri != "ok":
        return Refusal(
            "cri-would-fail",
            f"the CRI plugin would not load with this change: {error or 'it is disabled'}",
            "repair what the message names, then plan again",
        )
    return None


def _without_effect(after: Effective, default: str | None, *, right: bool) -> Iterator[Refusal]:
    if not right:
        yield Refusal(
            "no-effect",
            f"another file of this host overrides handler {NAME}: the change would not arrive",
            f"look at {', '.join(after.files)}, remove what contradicts, and plan again",
        )
    if default is not None and after.default_runtime_name != default:
        yield Refusal(
            "no-effect",
            f"the default handler would stay {clean_line(after.default_runtime_name or 'unset')}",
            f"look at {', '.join(after.files)}, remove what contradicts, and plan again",
        )


def _removed_shims(before: Effective, after: Effective) -> Iterator[Refusal]:
    """Handlers that would come to life with a shim that this release has no more: their pods fail at creation."""
    for name, handler in sorted(after.runtimes.items()):
        former = before.runtimes.get(name)
        if int(after.release.partition(".")[0]) < 2 or handler.runtime_type not in _REMOVED_SHIMS:
            continue
        if former is None or former.runtime_type != handler.runtime_type:
            yield Refusal(
                "removed-shim",
                f"handler {clean_line(name)} would use {handler.runtime_type}, which containerd 2 does not have",
                "set its runtime_type to io.containerd.runc.v2 in the file, then plan again",
            )


_Test = Callable[[EffectiveChange], bool]
_LOSSES: tuple[tuple[str, str, _Test, str], ...] = (
    (
        "handler-vanishes",
        "would vanish, and pods that run under it could not start again",
        lambda c: c.key.startswith("handler ") and "." not in c.key and c.after is None,
        "keep the handler in the file that counts",
    ),
    ("handler-changes", "of another handler than nvidia", lambda c: c.key.startswith("handler "), ""),
    ("default-changes", "although nobody asked for it", lambda c: c.key == "default handler", ""),
    ("sandbox-image-changes", "", lambda c: c.key == "sandbox image", ""),
    ("snapshotter-changes", "images would be unpacked anew", lambda c: c.key == "snapshotter", ""),
    ("cgroup-driver-changes", "", lambda c: c.key == "cgroup driver", ""),
    ("cni-changes", "pods would lose their network", lambda c: c.key.startswith("CNI "), ""),
    ("registry-changes", "", lambda c: c.key == "registry folder" or ".registry." in c.key, ""),
    ("cdi-changes", "", lambda c: c.key in ("CDI", "CDI folders"), ""),
    ("would-lose", "", lambda c: True, ""),
)
"""Each kind of loss by the first test that takes it: id, what it means, test, remedy."""

_SETTLE = "make that change by itself first, or find in the diff which file overrides it; then plan again"


def _lost(lost: tuple[EffectiveChange, ...]) -> Iterator[Refusal]:
    sorted_out: dict[str, list[EffectiveChange]] = {}
    for change in lost:
        name = next(name for name, _, test, _ in _LOSSES if test(change))
        sorted_out.setdefault(name, []).append(change)
    for name, meaning, _, remedy in _LOSSES:
        if name in sorted_out:
            words = ", ".join(_words(c) for c in sorted_out[name])
            means = f": {meaning}" if meaning else ""
            yield Refusal(name, f"the change would lose {words}{means}", remedy or _SETTLE)


def _words(change: EffectiveChange) -> str:
    """The lost values, without the secrets that registry settings may hold."""
    before, after = (redact_value(change.key, value) for value in (change.before or "", change.after or "gone"))
    return f"{clean_line(change.key)} ({clean_line(before)} → {clean_line(after)})"
