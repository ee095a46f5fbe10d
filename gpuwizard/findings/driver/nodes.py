"""Rules about what a loaded driver needs to be useful: persistence, nvidia-uvm, the persistence daemon."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.driver.words import applies, works
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES"]

_SLOW = 5  # seconds


def _slow(probe: Probe) -> Verdict | None:
    seconds, persistence = probe.facts.driver.smi_seconds, probe.facts.driver.persistence
    if persistence is not False or seconds is None or seconds < _SLOW:
        return None
    return Verdict((f"one nvidia-smi call took {seconds:.0f} s", "persistence mode is off", *_daemon(probe)))


def _several(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    gpus = sum("nvidia-smi" in gpu.seen_by for gpu in installed_gpus(probe))
    if driver.persistence is not False or gpus < 2 or _slow(probe) is not None or not applies(probe):
        return None
    return Verdict((f"{gpus} GPUs, persistence mode is off", *_daemon(probe)))


def _daemon(probe: Probe) -> tuple[str, ...]:
    unit = probe.facts.driver.persistenced
    if unit is None:
        return ()
    return (f"{unit.name}: {unit.active or 'unknown'}" if unit.loaded else f"{unit.name} is not installed",)


def _daemon_failed(probe: Probe) -> Verdict | None:
    unit = probe.facts.driver.persistenced
    if unit is None or unit.active != "failed" or not applies(probe) or probe.facts.driver.loaded is None:
        return None
    return Verdict((f"{unit.name}: {unit.active} ({unit.result or 'no result'})",))


def _no_uvm(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    loaded = driver.modules_loaded
    if loaded is None or driver.loaded is None or not applies(probe) or not works(probe):
        return None
    if not any(name == "nvidia" or name.startswith("nvidia_current") for name in loaded):
        return None  # sysfs does not show the driver either: what it does not name proves nothing
    if any(name.endswith("_uvm") for name in loaded) or "nvidia-uvm" in (driver.device_nodes or ()):
        return None
    manager = any(name.startswith("nvidia_vgpu") for name in loaded)
    if manager or any(gpu.virtualization in ("host-vgpu", "host-vsga") for gpu in installed_gpus(probe)):
        return None  # the manager of virtual GPUs has no CUDA
    return Verdict((f"loaded: {', '.join(sorted(n for n in loaded if n.startswith('nvidia')))}", "no nvidia_uvm"))


RULES = (
    Rule(
        "GW-DRIVER-009",
        "warning",
        "persistence mode is off and nvidia-smi is slow",
        "Without persistence mode every call starts all GPUs and stops them again.",
        "Enable nvidia-persistenced.service: `systemctl enable --now nvidia-persistenced`.",
        _slow,
        ("hosts.md §4.6", "hosts.md §0 rule 15"),
        effect="Every start of a GPU program waits; probes of the GPU Operator and of monitoring run into time-outs.",
        detected="nvidia-smi's column persistence_mode, and how long the call took.",
        messages=('Startup probe failed: command "sh -c nvidia-smi" timed out',),
        sources=("Azure/aks-gpu#105", "Azure/AgentBaker#2829"),
    ),
    Rule(
        "GW-DRIVER-049",
        "info",
        "persistence mode is off",
        "Nothing keeps the GPUs started between two programs.",
        "`systemctl enable --now nvidia-persistenced` (or `nvidia-smi -pm 1` until the next boot).",
        _several,
        ("hosts.md §3.5", "hosts.md §4.6"),
        effect="The first program on an idle GPU waits until it has started, the longer the more GPUs there are; error "
        "counts and settings such as power limits are forgotten.",
        detected="nvidia-smi's column persistence_mode on a host with several GPUs.",
        messages=("Persistence-M | Off",),
        sources=("docs.nvidia.com/deploy/driver-persistence", "Azure/aks-gpu#105"),
    ),
    Rule(
        "GW-DRIVER-050",
        "warning",
        "the persistence daemon failed",
        "nvidia-persistenced could not be started or died.",
        "Read `journalctl -u nvidia-persistenced -b`; a missing user nvidia-persistenced, missing device nodes or a "
        "library of another version are the usual reasons.",
        _daemon_failed,
        ("hosts.md §3.5",),
        effect="GPUs are stopped whenever nothing uses them, and each start takes seconds.",
        detected="The state of nvidia-persistenced.service.",
        messages=("nvidia-persistenced.service: Failed with result 'exit-code'.",),
        sources=("NVIDIA/nvidia-persistenced",),
        instead_of=("GW-DRIVER-009", "GW-DRIVER-049"),
    ),
    Rule(
        "GW-DRIVER-051",
        "warning",
        "the module nvidia_uvm is not loaded",
        "CUDA needs nvidia_uvm (unified memory) beside the module nvidia. Nobody has loaded it since the last boot.",
        "`modprobe nvidia_uvm && nvidia-modprobe -c 0 -u`, and write nvidia_uvm into /etc/modules-load.d/nvidia.conf. "
        "Then restart nvidia-cdi-refresh or the toolkit's pod, so that the CDI specification names /dev/nvidia-uvm.",
        _no_uvm,
        ("kubernetes.md §1.14 #20",),
        effect="A CDI specification that is made now lacks /dev/nvidia-uvm, and CUDA in such containers fails with "
        "`unknown error`. A CUDA program on the host that may load modules mends it by accident.",
        detected="/sys/module has nvidia and no nvidia_uvm, and nvidia-smi works.",
        messages=(
            "failed to load module nvidia-uvm",
            "failed to determine major: invalid device node",
            "CUDA_ERROR_UNKNOWN",
        ),
        sources=("NVIDIA/gpu-operator#539", "NVIDIA/gpu-operator#1015", "NVIDIA/gpu-operator#671"),
    ),
)
