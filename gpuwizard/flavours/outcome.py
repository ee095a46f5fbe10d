"""Why a planned outcome must not be, for runtimes that keep handlers in files of their own (`safety.md`, step 4)."""

from collections.abc import Iterable

from gpuwizard.actions import EffectiveChange, Refusal
from gpuwizard.clean import clean_line
from gpuwizard.containerd import Effective, losses
from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.flavours.handler import NAME
from gpuwizard.redact import redact_text

__all__ = ["announced", "cannot_be_told", "latent", "operator_manages", "outcome"]


def announced(
    changes: Iterable[EffectiveChange], *, default: bool, cdi: bool, also: Iterable[str] = ()
) -> tuple[EffectiveChange, ...]:
    """What of `changes` the plan is there for: handler nvidia, and the default handler and CDI where it sets them."""
    keys = {f"handler {NAME}", *also, *(("default handler",) if default else ()), *(("CDI",) if cdi else ())}
    return tuple(c for c in changes if c.key in keys or c.key.startswith(f"handler {NAME}."))


def outcome(
    before: Effective, after: Effective, expected: Iterable[EffectiveChange], *, right: bool, default: str | None
) -> tuple[Refusal, ...]:
    """The refusals of a plan: the runtime broken, the default handler undefined, handler nvidia not there as planned
    (`right`), another default than planned, or something lost that is not `expected`."""
    if not after.usable:
        return (Refusal("would-break", f"the change would break the runtime: {after.error or after.cri}"),)
    name = after.default_runtime_name or ""
    if name not in after.runtimes:
        why = f"the default handler {clean_line(name)} would not be defined"
        return (Refusal("default-undefined", why, "define it first, or choose another default"),)
    found: list[Refusal] = []
    if not right:
        found.append(
            Refusal(
                "no-effect",
                f"another file of this host overrides handler {NAME}: the change would not arrive",
                f"look at {', '.join(after.files)}, remove what contradicts, and plan again",
            )
        )
    if default is not None and name != default:
        found.append(Refusal("no-effect", f"the default handler would stay {clean_line(name)}"))
    lost = losses(before, after, expected)
    if lost:
        words = ", ".join(f"{c.key} ({redact_text(c.before or '')} → {redact_text(c.after or 'gone')})" for c in lost)
        found.append(Refusal("would-lose", f"the change would lose {words}"))
    return tuple(found)


def latent(runtime: RuntimeFacts, restart: str) -> Refusal | None:
    """A file changed after the runtime started: any restart would activate that as well (`safety.md`, step 2)."""
    if not runtime.running or not runtime.config_newer_than_process:
        return None
    files = ", ".join(runtime.changed_files) or "its configuration"
    return Refusal(
        "latent-change",
        f"{files} was changed after {runtime.unit or 'the runtime'} started: the restart would activate that as well",
        f"{restart} yourself, see that all is well, and plan again",
    )


def operator_manages(probe: Probe) -> Refusal | None:
    """The GPU Operator's toolkit pod writes the same handler: never both (`runtimes.md §10`, §11 trap 19)."""
    if probe.facts.operator.toolkit_pod != "running":
        return None
    return Refusal(
        "operator-manages",
        "the GPU Operator's toolkit pod manages this node's runtime: both would write handler nvidia",
        "leave this host to the operator (strategy none), or set toolkit.enabled=false in the operator's values",
    )


def cannot_be_told(path: str, why: str) -> Refusal:
    """A file whose meaning is not known for sure is not built upon."""
    return Refusal(
        "broken-now", f"{path}: {clean_line(why)}", "repair it first: any restart would activate this mistake"
    )
