"""The container toolkit, its specifications and the GPU Operator's traces out of one probe."""

from collections.abc import Sequence

from gpuwizard.facts.look import Look
from gpuwizard.facts.model import DriverFacts, Gpu, OperatorFacts, ToolkitFacts
from gpuwizard.facts.toolkit.toolkit import toolkit_facts

__all__ = ["components", "read_operator", "read_toolkit"]

_COMPONENT_UNITS = {
    "nvidia-persistenced.service": "nvidia-persistenced",
    "nvidia-fabricmanager.service": "nvidia-fabricmanager",
    "nvidia-cdi-refresh.service": "nvidia-cdi-refresh",
    "nvidia-dcgm.service": "dcgm",
}
_COMPONENT_MARKS = {
    "/usr/local/nvidia/toolkit": "gpu-operator-toolkit",
    "/run/nvidia/validations": "gpu-operator-validator",
}


def read_toolkit(look: Look, gpus: Sequence[Gpu], driver: DriverFacts) -> ToolkitFacts:
    """The toolkit facts of one probe; `gpus` and `driver` are what its CDI specifications are held against."""
    frames = look.frames
    return toolkit_facts(
        runtime_path=frames.text("toolkit-runtime"),
        version_text=frames.good("toolkit-version"),
        config_text=frames.text("toolkit-config"),
        cdi_specs=frames.lines("cdi-specs"),
    )


def read_operator(look: Look) -> OperatorFacts:
    """What the GPU Operator left on this host."""
    return OperatorFacts()


def components(look: Look) -> tuple[str, ...]:
    """NVIDIA's components that are installed on the host or were placed there, by name."""
    found = [name for unit, name in _COMPONENT_UNITS.items() if unit in look.units and look.units[unit].loaded]
    found += [name for mark, name in _COMPONENT_MARKS.items() if mark in look.marks]
    return tuple(sorted(found))
