"""Every container runtime of one probe."""

from gpuwizard.facts.frames import Section
from gpuwizard.facts.look import Look
from gpuwizard.facts.model import KubernetesFacts, RuntimeFacts
from gpuwizard.facts.runtimes.runtimes import ContainerdLook, RuntimeInputs, runtime_facts
from gpuwizard.facts.text import number

__all__ = ["read_runtimes"]


def read_runtimes(look: Look, kubernetes: KubernetesFacts, endpoint: str | None) -> tuple[RuntimeFacts, ...]:
    """The runtimes, that of the kubelet first. `endpoint` is the kubelet's CRI socket: None when unknown, empty when
    the host has no kubelet."""
    frames = look.frames
    return runtime_facts(
        RuntimeInputs(
            containerds=[c for s in frames.all("containerd") if (c := _containerd(look, s)) is not None],
            processes=look.processes,
            units=look.units,
            files=look.files,
            kubernetes=kubernetes,
            endpoint=endpoint,
            docker_version=frames.good("docker-version"),
            crio_version=frames.good("crio-version"),
        )
    )


def _containerd(look: Look, section: Section) -> ContainerdLook | None:
    frames, key = look.frames, section.key
    fields = dict(line.partition("=")[::2] for line in section.lines)
    if not fields.get("config"):
        return None
    return ContainerdLook(
        pid=number(key) or None,
        config=fields["config"],
        socket=fields.get("socket") or None,
        binary=fields.get("binary") or None,
        version_text=frames.good("containerd-version", key),
        dump=frames.good("containerd-dump", key),
        dump_error=frames.text("containerd-error", key),
        plugins=frames.good("containerd-plugins", key),
    )
