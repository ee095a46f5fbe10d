"""Rules about containerd templates of K3s and RKE2 (`runtimes.md §2.3`, `§2.6`)."""

from collections.abc import Callable, Iterable

from gpuwizard.facts.model import Probe, Template, TemplateProblem, TemplateProblemKind
from gpuwizard.findings.kubernetes.words import flavour_name, is_template, problems, proven, shown_problem
from gpuwizard.findings.rule import KUBELET, NVIDIA_HANDLER, Rule, Verdict, installed_gpus

__all__ = ["RULES"]

_SOURCE = "k3s-io/k3s pkg/agent/containerd/config.go"
_TEXTS = "k3s-io/k3s pkg/agent/templates/templates.go"
_BY_FILES = "The templates below agent/etc/containerd are read line by line and held against what the release writes."
_COPY = ("GW-K3S-001", "GW-RUNTIME-001", "GW-KUBE-005")
"""What else is true of a template that is wrong in a way of its own."""
_SEE = 'Put {{ template "base" . }} into its first line and leave only what is your own below it.'


def _full_copy(probe: Probe) -> Verdict | None:
    operators = {template.path for template, _ in problems(probe, "operator")}
    copies = [t for t, _ in problems(probe, "full-copy") if t.path not in operators]
    if not copies:
        return None
    evidence: list[str] = []
    for template in copies:
        evidence += [shown_problem(template, problem) for problem in template.problems if problem.kind == "full-copy"]
        file = probe.files.get(template.path)
        if file is not None and file.content is not None and b"nvidia" not in file.content.raw:
            evidence.append(f"{template.path}: does not name nvidia")
    runtime, toolkit = probe.facts.kubelet_runtime, probe.facts.toolkit.runtime_path
    hides = runtime is not None and bool(runtime.handlers) and "nvidia" not in runtime.handlers
    return Verdict(
        tuple(evidence),
        severity="error" if hides and installed_gpus(probe) and toolkit else None,
        title=f"a full copy replaces {flavour_name(probe)}'s own containerd template",
        about=frozenset((NVIDIA_HANDLER, *(template.path for template in copies))),
    )


def _operator(probe: Probe) -> Verdict | None:
    found = tuple(shown_problem(template, problem) for template, problem in problems(probe, "operator"))
    about = _concerns(problems(probe, "operator"))
    return Verdict(found, about=about) if found else None


def _concerns(found: Iterable[tuple[Template, TemplateProblem]], *, deadly: bool = False) -> frozenset[str]:
    """What problems of templates are about: the files, the handler that K3s would write by itself, and the service
    where it does not start with them."""
    about = frozenset((NVIDIA_HANDLER, *(template.path for template, _ in found)))
    return about | {KUBELET} if deadly else about


def _nvidia_twice(probe: Probe) -> Verdict | None:
    found = [(t, p) for t, p in problems(probe, "nvidia-twice") if is_template(t)]
    if not found:
        return None
    toolkit = probe.facts.toolkit.runtime_path
    evidence = [shown_problem(template, problem) for template, problem in found]
    if toolkit is None or (all(proven(probe, template) for template, _ in found) and not _newer_toolkit(probe)):
        evidence.append("the toolkit was not found when the service started: it does so at its next start")
        return Verdict(
            tuple(evidence), severity="warning",
            title=f"{flavour_name(probe)} will not start any more once it finds the toolkit",
            about=frozenset(template.path for template, _ in found),
        )  # fmt: skip
    return Verdict((*evidence, f"installed: {toolkit}"), about=_concerns(found, deadly=True))


def _newer_toolkit(probe: Probe) -> bool:
    kubernetes = probe.facts.kubernetes
    changed, rendered = kubernetes.toolkit_changed, kubernetes.rendered_at
    return changed is not None and rendered is not None and changed > rendered


def _deadly(*kinds: TemplateProblemKind) -> Callable[[Probe], Verdict | None]:
    """A template with such a problem keeps the service from starting; unless it has started with it."""

    def check(probe: Probe) -> Verdict | None:
        found = [
            (template, problem)
            for template, problem in problems(probe, *kinds)
            if is_template(template) and template.state == "dangerous" and not proven(probe, template)
        ]
        evidence = tuple(shown_problem(template, problem) for template, problem in found)
        return Verdict(evidence, about=_concerns(found, deadly=True)) if found else None

    return check


def _templates_with(*kinds: TemplateProblemKind) -> Callable[[Probe], Verdict | None]:
    def check(probe: Probe) -> Verdict | None:
        found = [(t, p) for t, p in problems(probe, *kinds) if is_template(t)]
        if not found:
            return None
        deadly = any(template.state == "dangerous" for template, _ in found)
        evidence = tuple(shown_problem(template, problem) for template, problem in found)
        return Verdict(evidence, severity="error" if deadly else None, about=_concerns(found, deadly=deadly))

    return check


def _old_tables(probe: Probe) -> Verdict | None:
    """In a file that has a version, or that has none on a release which still reads it."""
    found = [(t, p) for t, p in problems(probe, "old-tables") if is_template(t)]
    if not found:
        return None
    deadly = [t for t, _ in found if t.state == "dangerous" and not proven(probe, t)]
    evidence = tuple(shown_problem(template, problem) for template, problem in found)
    return Verdict(evidence, severity="error" if deadly else None, about=_concerns(found, deadly=bool(deadly)))


RULES = (
    Rule(
        "GW-K3S-001",
        "warning",
        "a full copy replaces K3s' own containerd template",
        "Older guides copied the rendered configuration into a template. It hides what newer releases write by "
        "themselves: the detected nvidia handler, CNI paths, the pause image, the cgroup driver.",
        'Move the template away and restart the service, or reduce it to {{ template "base" . }} plus what is '
        "really yours.",
        _full_copy,
        ("runtimes.md §2.6", "runtimes.md §11 #13"),
        effect="The node keeps the settings of the release from which it was copied: GPUs stay invisible, and an "
        "upgrade can leave the node NotReady.",
        detected=_BY_FILES,
        messages=('no runtime for "nvidia" is configured', "Using containerd template at"),
        sources=(_SOURCE, "rancher/rke2-docs docs/advanced.md (containerd)"),
        instead_of=("GW-RUNTIME-001",),
    ),
    Rule(
        "GW-K3S-002",
        "error",
        "a template defines the nvidia handler a second time",
        "K3s and RKE2 add the handler themselves as soon as the toolkit is installed; the same table twice keeps "
        "containerd from starting.",
        "Remove the nvidia tables from the template.",
        _nvidia_twice,
        ("runtimes.md §2.3", "runtimes.md §11 #4"),
        effect="The service does not come up again after its next restart, and the node goes NotReady.",
        detected=_BY_FILES,
        messages=("containerd exited", "duplicated tables", "toml: table nvidia already exists"),
        sources=(_TEXTS,),
        instead_of=_COPY,
    ),
    Rule(
        "GW-K3S-007",
        "error",
        "a template repeats a table or key of the built-in one",
        "The built-in template writes this already, and TOML allows every table and key once.",
        "Remove it from the template: a default runtime is set by the option default-runtime, anything else by a "
        "drop-in where the release imports some.",
        _deadly("table-twice"),
        ("runtimes.md §2.3", "runtimes.md §11 #5"),
        effect="containerd refuses the file at the next start; the service stops with it and restarts in a loop.",
        detected=_BY_FILES,
        messages=("duplicated tables", "key was defined twice", "containerd exited"),
        sources=(_TEXTS,),
        instead_of=_COPY,
    ),
    Rule(
        "GW-K3S-008",
        "error",
        "a template uses what this release does not know",
        "K3s fills templates with Go's text/template, which ends the program on an unknown function, field or an "
        "unclosed action.",
        "Remove the line, or upgrade to a release that knows it; do not take templates from another release.",
        _deadly("unknown-word", "no-base"),
        ("runtimes.md §2.3", "runtimes.md §2.2"),
        effect="The service panics at its next start, again and again.",
        detected="The actions in the template are compared with the functions and fields of the release.",
        messages=("panic: template: compiled_template", 'function "filepathjoin" not defined', "can't evaluate field"),
        sources=(_TEXTS,),
        instead_of=_COPY,
    ),
    Rule(
        "GW-K3S-009",
        "warning",
        "a template has tables of configuration version 1",
        "Tables like [plugins.cri] are from before containerd 1.3. In a file with a version line containerd 1.x "
        "refuses them and 2.x takes no notice of them.",
        _SEE,
        _old_tables,
        ("runtimes.md §2.6", "runtimes.md §11 #6"),
        effect="The handler that they define does not exist, or the service does not start.",
        detected=_BY_FILES,
        messages=('invalid plugin key URI "cri" expect io.containerd.x.vx', 'no runtime for "nvidia" is configured'),
        sources=("containerd/containerd RELEASES.md",),
        instead_of=_COPY,
    ),
    Rule(
        "GW-K3S-010",
        "error",
        "a template has no version, so that its CRI part is ignored",
        "containerd 2.0 to 2.2 does not read the CRI part of a file without a version line, and 1.x reads only tables "
        "of version 1 in it.",
        _SEE,
        _templates_with("no-version"),
        ("runtimes.md §2.6", "runtimes.md §1.3"),
        effect="The CRI plugin starts with its defaults: other CNI folders, another pause image, no nvidia handler; "
        "the node goes NotReady.",
        detected=_BY_FILES,
        messages=("Ignoring unknown key in TOML for plugin", "cni plugin not initialized"),
        sources=("containerd/containerd cmd/containerd/server/config/config.go",),
        instead_of=_COPY,
    ),
    Rule(
        "GW-K3S-011",
        "error",
        "a version 3 template leaves out root, state or address",
        "With config-v3.toml.tmpl K3s starts containerd with -c alone: without these keys it uses the folders of "
        "another containerd.",
        _SEE,
        _deadly("no-state"),
        ("runtimes.md §2.3", "runtimes.md §11 #14"),
        effect="K3s waits for ever for its socket below /run/k3s.",
        detected=_BY_FILES,
        messages=("Waiting for containerd startup",),
        sources=(_SOURCE,),
        instead_of=(*_COPY, "GW-K3S-010"),
    ),
    Rule(
        "GW-K3S-012",
        "warning",
        "a template has the version of the other template file",
        "config.toml.tmpl is for version 2 and config-v3.toml.tmpl for version 3: K3s chooses its arguments for "
        "containerd by the name of the file.",
        _SEE,
        _templates_with("wrong-version"),
        ("runtimes.md §2.6",),
        effect="What relies on the version goes wrong sooner or later; a release with containerd 1.7 does not start.",
        detected=_BY_FILES,
        messages=("unsupported config version `3`",),
        sources=(_SOURCE,),
        instead_of=("GW-K3S-001", "GW-RUNTIME-001"),
    ),
    Rule(
        "GW-K3S-013",
        "warning",
        "version or imports stand below the built-in template",
        "Keys of the top level belong before the first table; below it they fall into the table above them.",
        "Remove them: the built-in template sets the version, and imports its own drop-in folder where it can.",
        _templates_with("after-base"),
        ("runtimes.md §2.3", "runtimes.md §11 #8"),
        effect="The imported files are not read, and nothing says so.",
        detected=_BY_FILES,
        messages=("Ignoring unknown key in TOML for plugin",),
        sources=(_TEXTS,),
    ),
    Rule(
        "GW-K3S-014",
        "warning",
        "a template is not used",
        "config-v3.toml.tmpl wins over config.toml.tmpl, and releases before v1.31.6 and v1.32.2 know only the latter.",
        "Keep one: what is still needed belongs into the file that this release reads.",
        _templates_with("other-wins"),
        ("runtimes.md §2.3", "runtimes.md §2.2"),
        effect="What it configures is not there.",
        detected=_BY_FILES,
        messages=("Using containerd config template at",),
        sources=(_SOURCE,),
    ),
    Rule(
        "GW-K3S-015",
        "warning",
        "a template mixes the plugin names of two versions",
        "config.toml.tmpl is version 2 (io.containerd.grpc.v1.cri), config-v3.toml.tmpl version 3 "
        "(io.containerd.cri.v1.runtime); containerd reads only those of the file's own version.",
        "Write the tables with the names of the file that they are in.",
        _templates_with("wrong-dialect"),
        ("runtimes.md §1.3", "runtimes.md §2.3"),
        effect="The handler does not exist; names of version 3 in a file of version 2 also take the other handlers and "
        "their SystemdCgroup away.",
        detected=_BY_FILES,
        messages=('no runtime for "nvidia" is configured', "Ignoring unknown key in TOML for plugin"),
        sources=("containerd/containerd cmd/containerd/server/config/config.go",),
        instead_of=_COPY,
    ),
    Rule(
        "GW-K3S-018",
        "error",
        "the GPU Operator wrote a containerd template",
        "With CONTAINERD_CONFIG set to the template (advice from before 2025) the operator's toolkit writes a copy of "
        "the rendered file, which cannot carry what the release fills in.",
        "Move the template away and restart the service; in the operator's values set CONTAINERD_SOCKET alone, or "
        "NO_RUNTIME_CONFIG=true.",
        _operator,
        ("kubernetes.md §1.14 #8", "runtimes.md §3"),
        effect="After the next reboot or upgrade the service does not bring the node back: CNI folders, pause image "
        "and cgroup driver are those of the day on which it was written.",
        detected="A template without any action names the runtime below /usr/local/nvidia/toolkit.",
        messages=("pod sandbox has changed", "runtime core not ready"),
        sources=("NVIDIA/gpu-operator#992", "NVIDIA/gpu-operator#473", "rancher/rke2#8752"),
        instead_of=_COPY,
    ),
    Rule(
        "GW-K3S-025",
        "error",
        "what comes out of a template is no TOML",
        "containerd parses the file strictly and ends at the first mistake.",
        "Correct the line, or move the template away and restart the service.",
        _deadly("not-toml"),
        ("runtimes.md §2.3",),
        effect="containerd does not start; the service restarts in a loop, and only containerd.log says why.",
        detected="The template is parsed with its simple actions filled in.",
        messages=("containerd exited", "failed to load TOML"),
        sources=(_SOURCE,),
        instead_of=_COPY,
    ),
)
