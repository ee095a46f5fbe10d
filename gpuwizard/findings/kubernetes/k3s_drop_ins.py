"""Rules about drop-ins of K3s and RKE2, and about edits of the file that they write themselves (`runtimes.md §2.3`)."""

from gpuwizard.facts.model import Probe, Template, TemplateProblem, TemplateProblemKind
from gpuwizard.findings.kubernetes.words import is_rancher, is_template, moment, problems, rendered_path, shown_problem
from gpuwizard.findings.rule import KUBELET, NVIDIA_HANDLER, Rule, Verdict
from gpuwizard.findings.runtimes.words import defines_nvidia

__all__ = ["RULES"]

_TEXTS = "k3s-io/k3s pkg/agent/templates/templates.go"
_BY_IMPORTS = "The imports line of the rendered config.toml, and the template that the next start renders."


def _drop_ins(probe: Probe, *kinds: TemplateProblemKind) -> list[tuple[Template, TemplateProblem]]:
    return [(template, problem) for template, problem in problems(probe, *kinds) if not is_template(template)]


def _concerns(probe: Probe, found: list[tuple[Template, TemplateProblem]]) -> frozenset[str]:
    paths = frozenset(template.path for template, _ in found)
    return paths | {NVIDIA_HANDLER} if any(defines_nvidia(probe, path) for path in paths) else paths


def _not_imported(probe: Probe) -> Verdict | None:
    found = _drop_ins(probe, "not-imported")
    evidence = tuple(shown_problem(template, problem) for template, problem in found)
    return Verdict(evidence, about=_concerns(probe, found)) if found else None


def _without_effect(probe: Probe) -> Verdict | None:
    found = [
        (t, p) for t, p in _drop_ins(probe, "wrong-version", "wrong-dialect", "old-tables") if t.state == "ignored"
    ]
    evidence = tuple(shown_problem(template, problem) for template, problem in found)
    return Verdict(evidence, about=_concerns(probe, found)) if found else None


def _deadly(probe: Probe) -> Verdict | None:
    found = [
        (t, p) for t, p in _drop_ins(probe, "wrong-version", "wrong-dialect", "not-toml") if t.state == "dangerous"
    ]
    evidence = tuple(shown_problem(template, problem) for template, problem in found)
    return Verdict(evidence, about=_concerns(probe, found) | {KUBELET, rendered_path(probe)}) if found else None


def _edited(probe: Probe) -> Verdict | None:
    """The newest of the files that are younger than the process is the rendered one itself: nothing else writes it
    after the start."""
    runtime, kubernetes = probe.facts.kubelet_runtime, probe.facts.kubernetes
    path = rendered_path(probe)
    if not is_rancher(probe) or kubernetes.rendered_at is None or runtime is None:
        return None
    if runtime.config_path != path or runtime.config_newer_than_process is not True:
        return None
    others = [
        file.mtime for name in runtime.config_files if name != path and (file := probe.files.get(name)) is not None
    ]
    if any(mtime is None or mtime >= kubernetes.rendered_at for mtime in others):
        return None
    return Verdict(
        (f"{path}: written {moment(kubernetes.rendered_at)}, after its containerd was started",),
        about=frozenset((path,)),
    )


RULES = (
    Rule(
        "GW-K3S-016",
        "warning",
        "a containerd drop-in is not imported",
        "Drop-in folders are imported since v1.33.10, v1.34.6, v1.35.3 and v1.36.0, config-v3.toml.d by the version 3 "
        "template and config.toml.d by the version 2 one; a template without the base imports what it says itself.",
        'Upgrade, move the file to the folder that is imported, or use a template with {{ template "base" . }}.',
        _not_imported,
        ("runtimes.md §2.2", "runtimes.md §2.3"),
        effect="What the file configures is not there, and nothing says so.",
        detected=_BY_IMPORTS,
        sources=(_TEXTS, "k3s-io/k3s#13680"),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-K3S-017",
        "warning",
        "a containerd drop-in has no effect",
        "A drop-in must have the version and the plugin names of the file that imports it; containerd before 2.3 takes "
        "no notice of others.",
        "Write `version = 3` and the table names of version 3 into files of config-v3.toml.d.",
        _without_effect,
        ("runtimes.md §1.3", "runtimes.md §2.3"),
        effect="What the file configures is not there, and nothing says so.",
        detected=_BY_IMPORTS,
        messages=("Ignoring unknown key in TOML for plugin",),
        sources=("containerd/containerd cmd/containerd/server/config/config.go",),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-K3S-027",
        "error",
        "a containerd drop-in breaks the runtime",
        "containerd does not start with a drop-in that is no TOML or of a newer version than the file that imports it "
        "(2.3), or silently drops the CRI settings of that file (2.0 to 2.2).",
        "Correct the file, or move it out of the folder, and restart the service.",
        _deadly,
        ("runtimes.md §1.3", "runtimes.md §11 #2"),
        effect="The service restarts in a loop, or the node loses its CNI folders, pause image and cgroup driver.",
        detected=_BY_IMPORTS,
        messages=("drop-in config version 3 higher than root config version 2", "containerd exited"),
        sources=("containerd/containerd cmd/containerd/server/config/config.go",),
        instead_of=("GW-RUNTIME-001", "GW-RUNTIME-003", "GW-KUBE-005"),
    ),
    Rule(
        "GW-K3S-026",
        "warning",
        "the rendered config.toml was edited",
        "K3s and RKE2 write this file anew at every start; nothing but they should write it.",
        "Put the change into a drop-in that the file imports, or into a template on top of the base.",
        _edited,
        ("runtimes.md §11 #12", "runtimes.md §2.1"),
        effect="The edit is not in use now and is gone after the next start.",
        detected="The file was written after the containerd that reads it was started, and no drop-in is younger.",
        messages=("DO NOT EDIT. Use config.toml.tmpl instead",),
        sources=("k3s-io/k3s pkg/agent/containerd/config.go",),
        instead_of=("GW-RUNTIME-012",),
    ),
)
