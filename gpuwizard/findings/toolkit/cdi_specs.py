"""What rules about CDI specifications share: which ones are NVIDIA's, and which are surely in use."""

from gpuwizard.facts.model import CdiSpec, Probe

__all__ = ["in_use", "nvidia_specs", "specs_of_gpus"]


def nvidia_specs(probe: Probe) -> tuple[CdiSpec, ...]:
    """The specifications of NVIDIA's that a runtime takes."""
    return tuple(
        spec
        for spec in probe.facts.toolkit.specs
        if spec.understood and spec.error is None and spec.kind is not None and "nvidia.com/" in spec.kind
    )


def specs_of_gpus(probe: Probe) -> tuple[CdiSpec, ...]:
    """Those whose devices are GPUs; there are others, of IMEX channels and GPUs for virtual machines."""
    return tuple(spec for spec in nvidia_specs(probe) if str(spec.kind).endswith("nvidia.com/gpu"))


def in_use(probe: Probe, spec: CdiSpec) -> bool:
    """Containers surely get their GPUs by it: the device plugin's, the operator's, or that of mode cdi."""
    toolkit = probe.facts.toolkit
    if str(spec.kind).startswith(("k8s.", "management.")):
        return True
    return toolkit.mode == "cdi" and spec.kind == toolkit.default_kind
