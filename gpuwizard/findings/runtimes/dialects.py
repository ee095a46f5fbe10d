"""Rules about versions and table names of containerd's files: what is fatal, and what is silently ignored
(`runtimes.md §0`, `§1.1`, `§1.3`)."""

from collections.abc import Callable

from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.facts.model.runtime import ConfigWarningKind
from gpuwizard.findings.model import Severity
from gpuwizard.findings.rule import Rule, Verdict, shown_runtime
from gpuwizard.findings.runtimes.words import (
    concerns,
    containerds,
    release_of,
    shown_warning,
    shown_warnings,
    warned,
    whole,
    works_now,
)

__all__ = ["NO_START", "OTHER_SETTINGS", "RULES"]

_LOADER = "containerd/containerd cmd/containerd/server/config/config.go"
_BY_FILES = (
    "The root file and all that it imports are parsed and held against what this release of containerd reads, and "
    "against its own `config dump`."
)
NO_START = (
    "GW-RUNTIME-001",
    "GW-RUNTIME-002",
    "GW-RUNTIME-003",
    "GW-RUNTIME-004",
    "GW-RUNTIME-006",
    "GW-RUNTIME-010",
    "GW-RUNTIME-012",
    "GW-KUBE-005",
)
"""What else is true of a containerd that does not start with its files, or will not (GW-RUNTIME-012: a restart is the
last thing it needs)."""
OTHER_SETTINGS = ("GW-RUNTIME-001", "GW-RUNTIME-009", "GW-RUNTIME-012", "GW-CONTAINERD-014")
"""What else is true of a containerd that drops settings of its files."""
_OWN_RULES: frozenset[ConfigWarningKind] = frozenset(
    ("twice", "stub-versioned", "missing-import", "version", "newer-drop-in", "old-table")
)
"""Refusals that a rule of their own explains."""


def _refused(probe: Probe) -> Verdict | None:
    for runtime in containerds(probe):
        broken = [w for w in runtime.warnings if w.kind == "syntax"]
        explained = [w for w in runtime.warnings if w.kind in _OWN_RULES and _is_fatal(runtime, w.kind)]
        if not (runtime.refused or broken) or (explained and not broken):
            continue
        evidence = [shown_runtime(runtime), *(shown_warning(w) for w in broken)]
        if runtime.effective_error:
            evidence.append(runtime.effective_error)
        return Verdict(
            tuple(dict.fromkeys(evidence)),
            title=_when(runtime),
            severity=_how_bad(runtime),
            about=concerns(probe, [(runtime, warning) for warning in broken]) | whole(runtime),
        )
    return None


def _is_fatal(runtime: RuntimeFacts, kind: ConfigWarningKind) -> bool:
    """Whether containerd refuses to start over a warning of that kind."""
    release = release_of(runtime)
    if kind == "old-table":
        return release is not None and release.major < 2
    if kind == "newer-drop-in":
        return release is not None and (release.refuses_newer_drop_in or release.refuses_version_3)
    return True


def _how_bad(runtime: RuntimeFacts) -> Severity | None:
    """A containerd that is stopped and that no kubelet uses troubles nobody yet."""
    return "warning" if runtime.running is False and runtime.used_by_kubelet is False else None


def _when(runtime: RuntimeFacts) -> str:
    if runtime.running:
        return "containerd will not start again with its files"
    return "containerd does not start with its files"


def _rule(
    *kinds: ConfigWarningKind,
    fatal: bool | None = None,
    major: int | None = None,
) -> Callable[[Probe], Verdict | None]:
    """A check for warnings of those kinds; `fatal` and `major` narrow it to what is fatal, or to a major release."""

    def check(probe: Probe) -> Verdict | None:
        found = [
            (runtime, warning)
            for runtime, warning in warned(probe, *kinds)
            if (fatal is None or _is_fatal(runtime, warning.kind) is fatal)
            and (major is None or ((release := release_of(runtime)) is not None and release.major == major))
        ]
        if not found:
            return None
        runtimes = [runtime for runtime, _ in found]
        evidence = shown_warnings(found)
        if any(works_now(runtime) for runtime in runtimes) and fatal:
            evidence = (*evidence, "it runs: it was started before these files were written")
        severities = [_how_bad(runtime) for runtime in runtimes]
        severity = severities[0] if None not in severities else None
        about = concerns(probe, found)
        if "late-key" in kinds:  # an `imports` line among them: then nothing is imported
            about |= concerns(probe, warned(probe, "not-imported"))
        return Verdict(evidence, severity=severity, about=about)

    return check


RULES: tuple[Rule, ...] = (
    Rule(
        "GW-CONTAINERD-001",
        "error",
        "containerd does not start with its files",
        "containerd's own loader refuses the configuration on disk.",
        "Correct the file at the line that the message names, see that `containerd config dump` ends without an error, "
        "then restart containerd. Nothing is lost by waiting as long as it runs.",
        _refused,
        ("runtimes.md §1.3", "kubernetes.md §1.14 #7"),
        effect="A containerd that runs goes on until its next restart, update or reboot, and does not come back.",
        detected="`containerd config dump` runs the daemon's own loader on the same files; it ended with an error.",
        messages=("containerd: failed to load TOML", "failed to unmarshal TOML"),
        sources=(_LOADER, "NVIDIA/nvidia-container-toolkit#982"),
        instead_of=NO_START,
    ),
    Rule(
        "GW-CONTAINERD-009",
        "error",
        "a table stands twice in containerd's files",
        "The same table or key is defined twice in one file, whatever the quotes; guides that say `append` do that.",
        "Keep one of the two, then restart containerd.",
        _rule("twice"),
        ("runtimes.md §1.3", "runtimes.md §0 fact 5"),
        effect="containerd does not start any more, in no release.",
        detected=_BY_FILES,
        messages=("duplicated tables", "key was defined twice", "table nvidia already exists"),
        sources=("pelletier/go-toml", _LOADER),
        instead_of=("GW-CONTAINERD-001", *NO_START),
    ),
    Rule(
        "GW-CONTAINERD-027",
        "error",
        "containerd does not know the version of its file",
        "The number in the `version` line is higher than this release of containerd knows.",
        "Write the file in the version that this release prints by `containerd config default`, or upgrade containerd.",
        _rule("version"),
        ("runtimes.md §1.1", "runtimes.md §0 fact 2"),
        effect="containerd does not start; releases before 1.6.32 and 1.7.17 start and do nothing with the tables of "
        "version 3.",
        detected=_BY_FILES,
        messages=("unsupported config version `3`", "expected containerd config version equal to or less than"),
        sources=("containerd/containerd RELEASES.md", _LOADER),
        instead_of=("GW-CONTAINERD-001", *NO_START),
    ),
    Rule(
        "GW-CONTAINERD-013",
        "error",
        'disabled_plugins = ["cri"] beside a version line',
        "Docker's package switches CRI off by its short name. As soon as the file has a version line that name is "
        "invalid.",
        "Write `disabled_plugins = []` (a drop-in cannot empty the list), or replace the file by the output of "
        "`containerd config default` and set SystemdCgroup of runc to the kubelet's driver.",
        _rule("stub-versioned"),
        ("runtimes.md §11 #7", "runtimes.md §1.3"),
        effect="containerd does not start any more, in no release; with it Docker and the kubelet.",
        detected=_BY_FILES,
        messages=('invalid disabled plugin URI "cri" expect io.containerd.x.vx',),
        sources=("docker/containerd-packaging common/containerd.toml", _LOADER),
        instead_of=("GW-CONTAINERD-001", *NO_START),
    ),
    Rule(
        "GW-CONTAINERD-005",
        "error",
        "tables of version 1 keep containerd from starting",
        "A guide for an old file was followed: `[plugins.cri…]`, `[plugins.linux]` or a plugin's name without quotes "
        "stands in a file that has a version line.",
        'Write `[plugins."io.containerd.grpc.v1.cri"…]` (version 2) with the quotes, then restart containerd.',
        _rule("old-table", fatal=True),
        ("runtimes.md §11 #6", "runtimes.md §0 fact 3"),
        effect="containerd 1.x refuses to start.",
        detected=_BY_FILES,
        messages=('invalid plugin key URI "cri" expect io.containerd.x.vx',),
        sources=("containerd/containerd services/server/config/config.go",),
        instead_of=("GW-CONTAINERD-001", *NO_START),
    ),
    Rule(
        "GW-CONTAINERD-028",
        "warning",
        "tables of version 1 do nothing",
        "A guide for an old file was followed: `[plugins.cri…]`, `[plugins.linux]` or a plugin's name without quotes "
        "stands in a file that has a version line.",
        "Write the tables under the names of the file's own version (`io.containerd.grpc.v1.cri` in 2, "
        "`io.containerd.cri.v1.runtime` in 3), remove these, and restart containerd.",
        _rule("old-table", fatal=False),
        ("runtimes.md §11 #6", "runtimes.md §1.3"),
        effect="containerd 2.x starts and says nothing: the handler that is written there does not exist.",
        detected=_BY_FILES,
        messages=('no runtime for "nvidia" is configured',),
        sources=(_LOADER,),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-CONTAINERD-006",
        "error",
        "tables of version 3 in a file of version 2",
        "The two dialects are mixed. containerd 1.x ignores the new tables; 2.x takes their handlers and drops those "
        "of the old table.",
        "Write everything in the dialect of the file's version line, then restart containerd.",
        _rule("new-table"),
        ("runtimes.md §1.3",),
        effect="On 2.x runc loses SystemdCgroup and the other handlers vanish; on 1.x what is written there is dead.",
        detected=_BY_FILES,
        messages=('expected cgroupsPath to be of format "slice:prefix:name"', 'no runtime for "nvidia" is configured'),
        sources=(_LOADER, "containerd/containerd internal/cri/config/config.go"),
        instead_of=OTHER_SETTINGS,
    ),
    Rule(
        "GW-CONTAINERD-007",
        "warning",
        "tables of version 2 in a file of version 3 are ignored",
        "`io.containerd.grpc.v1.cri` keeps only server settings in version 3; handlers, images and CNI moved.",
        "Move them to `io.containerd.cri.v1.runtime` and `io.containerd.cri.v1.images`, then restart containerd.",
        _rule("foreign-table"),
        ("runtimes.md §1.1", "runtimes.md §1.3"),
        effect="What is written there does nothing.",
        detected=_BY_FILES,
        messages=("Ignoring unknown key in TOML for plugin",),
        sources=("containerd/containerd RELEASES.md", _LOADER),
        instead_of=OTHER_SETTINGS,
    ),
    Rule(
        "GW-CONTAINERD-008",
        "error",
        "containerd ignores the file for want of a version line",
        "A file without `version` is of version 1. containerd 2.0 to 2.2 translate its names and then drop its CRI "
        "settings; 1.x drops tables with names of version 2 or 3 in it.",
        "On 2.x convert it with `containerd config migrate`, compare, and put it in place; on 1.x add `version = 2` "
        "where all tables have names of version 2. Then restart containerd.",
        _rule("unversioned"),
        ("runtimes.md §0 fact 4", "runtimes.md §1.5"),
        effect="The CRI plugin runs on its defaults: pause image, CNI folders, registries, cgroup driver and handlers "
        "of the file are gone.",
        detected=_BY_FILES,
        messages=("Ignoring unknown key in TOML for plugin",),
        sources=(_LOADER,),
        instead_of=(*OTHER_SETTINGS, "GW-CONTAINERD-022"),
    ),
    Rule(
        "GW-CONTAINERD-010",
        "warning",
        "a key of the top level stands behind a table",
        "In TOML every key behind a table header belongs to that table: `imports` or `version` that was appended to "
        "the file is no longer what it was meant to be.",
        "Move the line above the first table, then restart containerd.",
        _rule("late-key"),
        ("runtimes.md §11 #8", "runtimes.md §1.3"),
        effect="Nothing is imported (or the version counts as missing), silently.",
        detected=_BY_FILES,
        sources=("toml.io v1.0.0", _LOADER),
        instead_of=("GW-RUNTIME-001", "GW-CONTAINERD-008", "GW-CONTAINERD-019"),
    ),
)
