"""Rules about CRI-O: its files, its handlers, and the folder that it does not read (`runtimes.md §9`)."""

from collections.abc import Iterator
from dataclasses import replace

from gpuwizard.facts.model import ConfigWarning, Probe, RuntimeFacts
from gpuwizard.facts.model.runtime import ConfigWarningKind
from gpuwizard.findings.rule import NVIDIA_HANDLER, Rule, Verdict, shown_runtime
from gpuwizard.findings.runtimes.words import concerns, shown_warning, whole

__all__ = ["RULES"]

_CONFIG = "cri-o/cri-o pkg/config/config.go"
_BY_FILES = "crio.conf and every file below crio.conf.d are read in CRI-O's own order."


def _crios(probe: Probe) -> Iterator[RuntimeFacts]:
    return (runtime for runtime in probe.facts.runtimes if runtime.kind == "crio")


def _warned(probe: Probe, kind: ConfigWarningKind) -> Verdict | None:
    found: list[tuple[RuntimeFacts, ConfigWarning]] = [
        (runtime, warning) for runtime in _crios(probe) for warning in runtime.warnings if warning.kind == kind
    ]
    if not found:
        return None
    evidence = (shown_runtime(found[0][0]), *(shown_warning(warning) for _, warning in found))
    return Verdict(evidence, about=concerns(probe, found))


def _no_toml(probe: Probe) -> Verdict | None:
    return _warned(probe, "syntax")


def _undefined(probe: Probe) -> Verdict | None:
    for runtime in _crios(probe):
        default = runtime.default_handler
        if default is None or not runtime.handlers or default in runtime.handlers or runtime.version is None:
            continue
        names = ", ".join(sorted(runtime.handlers))
        evidence = (shown_runtime(runtime), f'default_runtime = "{default}"', f"handlers: {names}")
        return Verdict(evidence, about=_subject(runtime, default))
    return None


def _subject(runtime: RuntimeFacts, default: str) -> frozenset[str]:
    return whole(runtime) | ({NVIDIA_HANDLER} if default == "nvidia" else frozenset())


def _unread(probe: Probe) -> Verdict | None:
    return _warned(probe, "unread")


def _backup(probe: Probe) -> Verdict | None:
    """A copy that is read last may bring the program of a former handler back."""
    verdict = _warned(probe, "backup")
    if verdict is None or NVIDIA_HANDLER not in verdict.about:
        return verdict
    return replace(verdict, about=verdict.about | {"program of handler nvidia"})


RULES: tuple[Rule, ...] = (
    Rule(
        "GW-CRIO-001",
        "error",
        "CRI-O does not start with its files",
        "One of CRI-O's configuration files is no valid TOML, or gives a key a value of another type than CRI-O takes "
        "there (a number for a text, a text for a table); files with any ending count.",
        "Correct or remove the file that is named; `crio config` shows whether all are read. Then `systemctl restart "
        "crio`.",
        _no_toml,
        ("runtimes.md §9",),
        effect="A CRI-O that runs goes on until its next restart and does not come back; the node is then NotReady.",
        detected=_BY_FILES,
        messages=("unable to decode configuration", "update config from path: walk path"),
        sources=(f"{_CONFIG} UpdateFromDropInFile",),
        instead_of=(
            "GW-RUNTIME-001",
            "GW-RUNTIME-004",
            "GW-RUNTIME-006",
            "GW-RUNTIME-010",
            "GW-RUNTIME-012",
            "GW-KUBE-005",
        ),
    ),
    Rule(
        "GW-CRIO-002",
        "error",
        "CRI-O's default handler is not defined",
        "default_runtime names a handler that no file defines.",
        "Define `[crio.runtime.runtimes.NAME]` or remove default_runtime, then `systemctl restart crio`.",
        _undefined,
        ("runtimes.md §9", "runtimes.md §11 #10"),
        effect="CRI-O does not start the next time; the node is then NotReady.",
        detected=_BY_FILES,
        messages=("no runtime entry table [crio.runtime.runtimes.nvidia] was found",),
        sources=(f"{_CONFIG} ValidateDefaultRuntime",),
        instead_of=("GW-RUNTIME-001", "GW-RUNTIME-006", "GW-RUNTIME-010", "GW-RUNTIME-012", "GW-KUBE-005"),
    ),
    Rule(
        "GW-CRIO-003",
        "warning",
        "CRI-O does not read /etc/crio/conf.d",
        "NVIDIA's install guide names that folder; CRI-O reads /etc/crio/crio.conf.d.",
        "Move the file to /etc/crio/crio.conf.d/99-nvidia.toml, then `systemctl restart crio`.",
        _unread,
        ("runtimes.md §9", "runtimes.md §13"),
        effect="The nvidia handler that is written there does not exist.",
        detected="There are files in /etc/crio/conf.d.",
        messages=("failed to find runtime handler nvidia from runtime list",),
        sources=("cri-o/cri-o docs/crio.conf.d.5.md", "NVIDIA/cloud-native-docs container-toolkit/install-guide.md"),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-CRIO-004",
        "warning",
        "CRI-O reads a backup copy",
        "CRI-O loads every file below crio.conf.d whatever its ending, also backups; in the alphabet a `.bak` comes "
        "after its original and wins.",
        "Move the copy out of that folder, then `systemctl restart crio`.",
        _backup,
        ("runtimes.md §11 #15", "runtimes.md §9"),
        effect="Old settings win over the new ones at the next start.",
        detected=_BY_FILES,
        sources=(f"{_CONFIG} UpdateFromPath",),
        instead_of=("GW-RUNTIME-007", "GW-RUNTIME-008"),
    ),
)
