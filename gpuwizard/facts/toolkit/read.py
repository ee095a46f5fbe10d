"""The container toolkit, its specifications and the GPU Operator's traces out of one probe."""

from collections.abc import Sequence
from dataclasses import replace

from gpuwizard.facts.look import Look
from gpuwizard.facts.model import DriverFacts, Gpu, OperatorFacts, ToolkitFacts, Unseen
from gpuwizard.facts.text import value
from gpuwizard.facts.toolkit.cdi import cdi_paths, read_specs
from gpuwizard.facts.toolkit.operator import operator_facts, operator_lines
from gpuwizard.facts.toolkit.sources import source_conflicts
from gpuwizard.facts.toolkit.toolkit import ToolkitInputs, ctk_version, toolkit_facts

__all__ = ["components", "read_operator", "read_toolkit", "toolkit_unseen"]

_COMPONENT_UNITS = {
    "nvidia-persistenced.service": "nvidia-persistenced",
    "nvidia-fabricmanager.service": "nvidia-fabricmanager",
    "nvidia-imex.service": "nvidia-imex",
    "nvidia-cdi-refresh.service": "nvidia-cdi-refresh",
    "nvidia-dcgm.service": "dcgm",
}
_COMPONENT_LINES = {
    "toolkit": "gpu-operator-toolkit",
    "validations": "gpu-operator-validator",
    "driver": "gpu-operator-driver",
    "plugin-socket": "device-plugin",
}
_COMPONENT_MARKS = {
    "/usr/local/nvidia/toolkit": "gpu-operator-toolkit",
    "/run/nvidia/validations": "gpu-operator-validator",
}
_COMPONENT_KINDS = {
    "nvidia.com/": "cdi",
    "management.nvidia.com/": "gpu-operator-cdi",
    "k8s.device-plugin.nvidia.com/": "device-plugin",
    "k8s.gpu.nvidia.com/": "dra-driver",
}
_RUNTIME_UNITS = ("containerd.service", "docker.service", "crio.service")
_OVERRIDE = "NVIDIA_CTK_CONFIG_FILE_PATH"


def read_toolkit(look: Look, gpus: Sequence[Gpu], driver: DriverFacts) -> ToolkitFacts:
    """The toolkit facts of one probe; `gpus` and `driver` tell whether an integrated GPU is at work."""
    frames = look.frames
    facts = toolkit_facts(
        ToolkitInputs(
            runtime_path=frames.text("toolkit-runtime"),
            binaries=frames.lines("toolkit-binaries"),
            version_text=frames.good("toolkit-version"),
            operator_version=ctk_version(frames.good("operator-version")),
            packages=look.packages,
            config=_file(look, "toolkit-config"),
            operator_config=_file(look, "operator-config"),
            low_level=frames.lines("toolkit-config-low-level"),
            operator_low_level=frames.lines("operator-config-low-level"),
            elsewhere=_elsewhere(look),
            integrated=_integrated(look, gpus, driver),
        )
    )
    state = frames.lines("toolkit-state")
    scan = frames.get("cdi-scan")
    sources = {section.key: section.text for section in frames.all("toolkit-source")}
    return replace(
        facts,
        cdi_specs=cdi_paths(frames.lines("cdi-specs")),
        specs=read_specs(scan.text, look.files, cut=scan.cut) if scan is not None else (),
        refresh_path=look.service("nvidia-cdi-refresh.path"),
        refresh_service=look.service("nvidia-cdi-refresh.service"),
        legacy_hook=next((value(line[5:]) for line in state if line.startswith("hook ")), None),
        dev_char=None if frames.get("toolkit-state") is None else any(line.startswith("dev-char") for line in state),
        sources=tuple(shown for path in sources if (shown := value(path))),
        source_conflicts=source_conflicts(sources),
    )


def read_operator(look: Look) -> OperatorFacts:
    """What the GPU Operator left on this host."""
    frames = look.frames
    section = frames.get("operator")
    return operator_facts(
        None if section is None or section.cut else operator_lines(section.lines),
        version_text=frames.good("operator-version"),
        files=look.files,
        root=look.root,
    )


def components(look: Look) -> tuple[str, ...]:
    """NVIDIA's components that are installed on the host or were placed there, by name."""
    found = {name for unit, name in _COMPONENT_UNITS.items() if unit in look.units and look.units[unit].loaded}
    found |= {name for mark, name in _COMPONENT_MARKS.items() if mark in look.marks}
    told = operator_lines(look.frames.lines("operator"))
    found |= {name for word, name in _COMPONENT_LINES.items() if word in told}
    found |= {name for name in told.get("component", ()) if name in ("mps", "dra-driver", "gpu-feature-discovery")}
    kinds = [line[2:] for line in look.frames.lines("cdi-scan") if line.startswith("k ")]
    found |= {name for start, name in _COMPONENT_KINDS.items() for kind in kinds if kind.startswith(start)}
    return tuple(sorted(found))


def toolkit_unseen(look: Look) -> tuple[Unseen, ...]:
    """Files of the toolkit that are in use and that the probe does not fetch."""
    path = _elsewhere(look)
    return () if path is None else (Unseen(path, f"{_OVERRIDE} names it, and only the usual place is read"),)


def _file(look: Look, section: str) -> tuple[int, str] | None:
    found = look.frames.get(section)
    return None if found is None or found.cut else (found.status, found.text)


def _elsewhere(look: Look) -> str | None:
    """The config.toml that a runtime's unit names, where it is not the usual one (`hosts.md §6.4`)."""
    for name in _RUNTIME_UNITS:
        unit = look.units.get(name)
        path = None if unit is None or not unit.loaded else value(unit.environment.get(_OVERRIDE))
        if path and path != "/etc/nvidia-container-runtime/config.toml":
            return path
    return None


def _integrated(look: Look, gpus: Sequence[Gpu], driver: DriverFacts) -> bool | None:
    """Whether ``auto`` means the GPU of a system on a chip (go-nvlib: pkg/nvlib/info/resolver.go)."""
    if any(gpu.name is not None and ("(nvgpu)" in gpu.name or "NVIDIA Thor" in gpu.name) for gpu in gpus):
        return True
    if look.frames.get("tegra-release") is None:
        return False
    return True if driver.userspace is None and not any(gpu.pci for gpu in gpus) else None
