"""What the rules about Kubernetes flavours ask of a probe again and again."""

import posixpath
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from gpuwizard.clean import clean_line
from gpuwizard.facts.kubernetes.release import KubeRelease
from gpuwizard.facts.model import HostFile, Probe, Template, TemplateProblem, TemplateProblemKind
from gpuwizard.facts.text import load_toml

__all__ = [
    "NAMES",
    "documents",
    "flavour_name",
    "is_rancher",
    "is_template",
    "line_of",
    "moment",
    "plan_may_act",
    "problems",
    "proven",
    "release_of",
    "rendered_path",
    "shown_problem",
]

NAMES = {
    "k3s": "K3s",
    "rke2": "RKE2",
    "kubeadm": "a kubelet of its own (kubeadm)",
    "k8s-snap": "Canonical Kubernetes",
    "microk8s": "MicroK8s",
    "k0s": "k0s",
    "openshift": "OpenShift",
    "microshift": "MicroShift",
    "kind": "kind",
    "minikube": "minikube",
}
"""What people call each flavour."""
_SAME_START = 5  # seconds between the files of one start


def flavour_name(probe: Probe) -> str:
    """The flavour as people call it."""
    return NAMES.get(probe.facts.kubernetes.flavour, "Kubernetes")


def is_rancher(probe: Probe) -> bool:
    """K3s or RKE2."""
    return probe.facts.kubernetes.flavour in ("k3s", "rke2")


def release_of(probe: Probe) -> KubeRelease | None:
    """The release of the flavour."""
    return KubeRelease.parse(probe.facts.kubernetes.version)


def is_template(template: Template) -> bool:
    """A template, not a drop-in."""
    return template.path.endswith(".tmpl")


def problems(probe: Probe, *kinds: TemplateProblemKind) -> Iterator[tuple[Template, TemplateProblem]]:
    """The problems of those kinds in templates and drop-ins of K3s and RKE2."""
    for template in probe.facts.kubernetes.template_states:
        for problem in template.problems:
            if problem.kind in kinds:
                yield template, problem


def shown_problem(template: Template, problem: TemplateProblem) -> str:
    """A problem as a line of evidence."""
    return line_of(template.path, problem.text, problem.line)


def line_of(path: str, text: str, line: int | None = None) -> str:
    """``path:line: text``, made fit to be shown: both come from the host."""
    place = path if line is None else f"{path}:{line}"
    return clean_line(f"{place}: {text.strip()}", 240)


def proven(probe: Probe, template: Template) -> bool:
    """The service runs and rendered its file after the template was changed last: the template does start."""
    kubernetes, file = probe.facts.kubernetes, probe.files.get(template.path)
    if kubernetes.active is not True or kubernetes.rendered_at is None or file is None or file.mtime is None:
        return False
    return kubernetes.rendered_at >= file.mtime


def rendered_path(probe: Probe) -> str:
    """The file that K3s or RKE2 writes for containerd at every start."""
    folder = probe.facts.kubernetes.data_dir or f"/var/lib/rancher/{probe.facts.kubernetes.flavour}"
    return posixpath.join(folder, "agent/etc/containerd/config.toml")


def moment(seconds: int | None) -> str:
    """A time for people, in UTC."""
    try:
        shown = datetime.fromtimestamp(seconds or 0, UTC)
    except (OverflowError, ValueError, OSError):
        return "an impossible time"
    return f"{shown:%Y-%m-%d %H:%M:%S} UTC" if seconds is not None else "an unknown time"


def plan_may_act(probe: Probe) -> bool:
    """Nothing of the host forbids gpuwizard's plan to restart K3s (`flavours.option.host_refusals`)."""
    facts = probe.facts
    fits = facts.os.kind != "wsl2" and not facts.os.immutable and facts.os.family not in ("talos", "flatcar", "nixos")
    return (
        probe.readable and fits and facts.driver.loaded is not None and not facts.driver.problem and not _latent(probe)
    )


def _latent(probe: Probe) -> bool:
    """A file of K3s was changed after its last start: the plan refuses to activate that as well."""
    rendered = probe.facts.kubernetes.rendered_at
    folders = (posixpath.dirname(rendered_path(probe)), "/etc/rancher/k3s/")
    return rendered is not None and any(
        path.startswith(folders) and path != rendered_path(probe) and (file.mtime or 0) > rendered + _SAME_START
        for path, file in probe.files.items()
        if file.content is not None
    )


def documents(probe: Probe, folder: str) -> Iterator[tuple[HostFile, dict[str, Any]]]:
    """The TOML files in `folder` that parse, in the order in which containerd reads them."""
    for path, file in sorted(probe.files.items()):
        if posixpath.dirname(path) == folder and path.endswith(".toml") and file.content is not None:
            document = load_toml(file.content.raw)
            if isinstance(document, dict):
                yield file, document
