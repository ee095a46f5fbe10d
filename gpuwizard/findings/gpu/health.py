"""Rules about GPUs that do not work: fallen off the bus, waiting for a reset, reporting errors."""

from dataclasses import replace

from gpuwizard.facts.model import Gpu, Probe
from gpuwizard.findings.gpu.words import each, places, shown_named, xids
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES", "off_the_bus"]

_DRIVER_FAILS = (
    "GW-DRIVER-006",
    "GW-DRIVER-025",
    "GW-DRIVER-032",
    "GW-DRIVER-037",
    "GW-DRIVER-043",
    "GW-DRIVER-044",
)
"""What nvidia-smi says of all GPUs when one of them is in that state."""
_LOGGED = ("GW-DRIVER-064", "GW-DRIVER-065", "GW-DRIVER-066", "GW-GPU-028")
"""What the kernel log says of the same GPU."""
_HANDLE = "device handle"
_RESET = "gpu requires reset"
_FELL_OFF = 79
_HARMLESS_XIDS = frozenset((13, 31, 43, 45, 68, 109))
"""Errors of the application, which the device plugin ignores (`kubernetes.md §1.14 row 37`)."""
_KNOWN_XIDS = frozenset((48, 63, 64, 74, 94, 95, 119, 120, _FELL_OFF))
"""Errors that have rules of their own."""


def off_the_bus(probe: Probe, gpu: Gpu) -> str | None:
    """How it is known that this GPU has fallen off the bus, or None. A GPU that nvidia-smi lists with good values is
    on the bus, whatever the kernel log says of earlier."""
    fault = (gpu.fault or "").lower()
    if fault in ("gpu is lost", "fallen off the bus"):
        return "its PCI link reads as ones only" if fault == "fallen off the bus" else "nvidia-smi: GPU is lost"
    if _HANDLE in gpu.fault_fields and fault != _RESET:
        return f"nvidia-smi: Unable to determine the device handle: {gpu.fault}"
    if "nvidia-smi" not in gpu.seen_by and gpu.pci is not None:
        line = next((x.line for x in xids(probe) if x.number == _FELL_OFF and gpu.pci.startswith(x.place)), None)
        return f"kernel log: {line}" if line else None
    return None


def _lost(probe: Probe) -> Verdict | None:
    gpus = installed_gpus(probe)
    evidence = [f"{shown_named(gpu)}: {how}" for gpu in gpus if (how := off_the_bus(probe, gpu)) is not None]
    evidence += _vanished(probe)
    if not evidence:
        return None
    lines = [f"kernel log: {x.line}" for x in xids(probe) if x.number == _FELL_OFF]
    known = "\n".join(evidence)
    about = places(gpu for gpu in gpus if off_the_bus(probe, gpu) is not None)
    about |= {x.place for x in xids(probe) if x.number == _FELL_OFF}
    return Verdict((*evidence, *(line for line in lines[:4] if line not in known)), about=about)


def _vanished(probe: Probe) -> list[str]:
    """GPUs of which only the kernel log still knows: the kernel has taken them off the bus."""
    if not probe.facts.gpus and not probe.facts.driver.loaded:
        return []
    if any(unseen.what == "PCI devices" for unseen in probe.facts.unseen):
        return []
    here = [gpu.pci for gpu in probe.facts.gpus if gpu.pci] + [device.pci for device in probe.facts.other_devices]
    gone = {
        x.place: x.line for x in xids(probe) if x.number == _FELL_OFF and not any(p.startswith(x.place) for p in here)
    }
    return [f"GPU at {place}, no longer on the bus; kernel log: {line}" for place, line in gone.items()]


def _needs_reset(probe: Probe) -> Verdict | None:
    def said(gpu: Gpu) -> str | None:
        return f"{', '.join(gpu.fault_fields)}: {gpu.fault}" if (gpu.fault or "").lower() == _RESET else None

    return each(probe, said)


def _error_cells(probe: Probe) -> Verdict | None:
    few = True

    def said(gpu: Gpu) -> str | None:
        nonlocal few
        if gpu.fault is None or gpu.fault.lower() == _RESET or off_the_bus(probe, gpu) is not None:
            return None
        few = few and len(gpu.fault_fields) == 1
        return f"{', '.join(gpu.fault_fields)}: {gpu.fault}"

    verdict = each(probe, said)
    return replace(verdict, severity="warning") if verdict is not None and few else verdict


def _recovery(probe: Probe) -> Verdict | None:
    actions: set[str] = set()

    def said(gpu: Gpu) -> str | None:
        action = gpu.recovery_action
        if action is None or action.lower() in ("none", "n/a"):
            return None
        actions.add(action.lower())
        return f"gpu_recovery_action = {action}"

    verdict = each(probe, said)
    if verdict is None:
        return None
    steps = " ".join(dict.fromkeys(_step(action) for action in sorted(actions)))
    mild = all(action == "drain p2p" for action in actions)
    return replace(verdict, remedy=steps, severity="warning" if mild else None)


def _step(action: str) -> str:
    if "reboot" in action:
        return "Drain the node and reboot it."
    if "imex" in action:
        return "Stop the jobs of this NVLink domain and restart nvidia-imex on its nodes."
    if "reset" in action:
        return "Drain the node, stop what uses the GPU, and run `nvidia-smi --gpu-reset -i N` as root; else reboot."
    if "drain" in action:
        return "Drain the pods that let GPUs talk to each other (NVLink, P2P); the GPU works on its own."
    return "Drain the node and follow NVIDIA's GPU debug guidelines for that action."


def _inforom(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    verdict = each(probe, lambda gpu: "WARNING: infoROM is corrupted" if gpu.inforom_corrupted else None)
    if verdict is None and driver.problem_code == 14:
        verdict = Verdict((f"nvidia-smi ended with status 14: {driver.problem or 'infoROM is corrupted'}",))
    return verdict


def _xid_errors(probe: Probe) -> Verdict | None:
    found = [x for x in xids(probe) if x.number not in _HARMLESS_XIDS and x.number not in _KNOWN_XIDS]
    if not found:
        return None
    shown = tuple(dict.fromkeys(x.line for x in found))
    more = (f"and {len(shown) - 6} more lines",) if len(shown) > 6 else ()
    return Verdict((*shown[:6], *more), about=frozenset(x.place for x in found))


def _throttled(probe: Probe) -> Verdict | None:
    hard = False

    def said(gpu: Gpu) -> str | None:
        nonlocal hard
        reasons = [r for r in gpu.throttle if r in ("hw-thermal", "hw-power-brake", "hw-slowdown")]
        hard = hard or any(r != "hw-slowdown" for r in reasons)
        heat = f", {gpu.temperature_c} °C" if gpu.temperature_c is not None else ""
        return f"{', '.join(reasons)}{heat}" if reasons else None

    verdict = each(probe, said)
    return replace(verdict, severity="info") if verdict is not None and not hard else verdict


def _denied(probe: Probe) -> Verdict | None:
    return each(probe, lambda gpu: f"{', '.join(gpu.denied)}: Insufficient Permissions" if gpu.denied else None)


RULES = (
    Rule(
        "GW-GPU-004",
        "error",
        "a GPU is lost",
        "The driver can no longer talk to the GPU: it has fallen off the bus, or it failed while it worked. Heat, "
        "power, a bad riser or slot, or a defect of the card.",
        "Drain the node and reboot it; when the GPU does not come back, power the machine off and on. If it happens "
        "again, look at power, temperature and seating, then have the card replaced (`nvidia-bug-report.sh`).",
        _lost,
        ("hosts.md §3.3", "hosts.md §3.4"),
        effect="Pods on this GPU fail. GPU indexes have a gap, and on some drivers the other GPUs fail too.",
        detected="nvidia-smi's lines about the device handle, `[GPU is lost]` in a cell, a PCI link width of 63 (its "
        "register reads as ones), or Xid 79 in the kernel log for a GPU that nvidia-smi does not list.",
        messages=(
            "Unable to determine the device handle for GPU3: 0000:5F:00.0: Unknown Error",
            "GPU is lost.  Reboot the system to recover this GPU",
            "NVRM: Xid (PCI:0000:5f:00): 79, GPU has fallen off the bus.",
        ),
        sources=("NVIDIA/cloud-native-docs gpu-operator/troubleshooting.rst", "docs.nvidia.com/deploy/xid-errors"),
        instead_of=(
            *_DRIVER_FAILS,
            *_LOGGED,
            "GW-DRIVER-039",
            "GW-DRIVER-067",
            "GW-GPU-002",
            "GW-GPU-007",
            "GW-GPU-012",
        ),
    ),
    Rule(
        "GW-GPU-005",
        "error",
        "a GPU must be reset",
        "The GPU stopped after an error and answers `[GPU requires reset]`. Its memory columns may still look healthy.",
        "Drain the node, stop every process that uses the GPU, and run `nvidia-smi --gpu-reset -i N` as root. Where "
        "that is not supported, reboot.",
        _needs_reset,
        ("hosts.md §3.3",),
        effect="CUDA does not start on this GPU: no CUDA-capable device is detected. Pods on it fail or hang.",
        detected="`[GPU requires reset]` in a cell of nvidia-smi's query.",
        messages=("[GPU requires reset]", "CUDA error: no CUDA-capable device is detected"),
        sources=("NVIDIA/go-nvml nvml.h NVML_ERROR_RESET_REQUIRED",),
        instead_of=(*_DRIVER_FAILS, *_LOGGED, "GW-DRIVER-040", "GW-GPU-007", "GW-GPU-012"),
    ),
    Rule(
        "GW-GPU-007",
        "error",
        "nvidia-smi shows errors in place of a GPU's values",
        "The driver cannot read these values from the GPU: its firmware has stopped, or a sensor is broken.",
        "Read `dmesg | grep -E 'NVRM|Xid'`, then drain the node and reboot it. Errors in one sensor alone are a matter "
        "for the card's maker.",
        _error_cells,
        ("hosts.md §3.3", "hosts.md §4.3"),
        effect="What runs on this GPU may hang; monitoring has no values for it.",
        detected="`ERR!` or `[Unknown Error]` in cells that every working GPU fills. One such cell is a warning.",
        messages=("ERR!", "[Unknown Error]"),
        sources=("nvidia-smi(1)",),
        instead_of=_LOGGED,
    ),
    Rule(
        "GW-GPU-008",
        "warning",
        "the infoROM of a GPU is corrupted",
        "A small memory on the card that holds its settings and error counts is damaged. The GPU itself works.",
        "Nothing urgent. Have the card's maker flash or replace it. GPU Operator releases that take nvidia-smi's exit "
        "status 14 for a failure need an upgrade.",
        _inforom,
        ("kubernetes.md §1.14 #36", "hosts.md §3.3"),
        effect="nvidia-smi ends with status 14 although all is well; scripts that test its status report a failure.",
        detected="nvidia-smi's warning, or its exit status 14.",
        messages=("WARNING: infoROM is corrupted at gpu 0000:0B:00.0",),
        sources=("NVIDIA/cloud-native-docs gpu-operator/troubleshooting.rst", "nvidia-smi(1)"),
    ),
    Rule(
        "GW-GPU-012",
        "error",
        "the driver asks for a recovery of a GPU",
        "After an error that it could not mend the driver says what must be done before the GPU is used again.",
        "Do what it asks for: reset, reboot or drain.",
        _recovery,
        ("hosts.md §3.2 #12", "hosts.md §4.4"),
        effect="New work on the GPU fails or is not safe.",
        detected="nvidia-smi's column gpu_recovery_action holds something else than None.",
        messages=("GPU Recovery Action : Reset", "GPU recovery action changed from"),
        sources=("NVIDIA/go-nvml nvml.h nvmlDeviceGpuRecoveryAction_t",),
        instead_of=_LOGGED,
    ),
    Rule(
        "GW-GPU-021",
        "warning",
        "a GPU is slowed down by its hardware",
        "The GPU halves its clocks or more to protect itself: it is too hot, or the machine's power supply has pulled "
        "the brake.",
        "Look at air flow, fans and inlet temperature (hw-thermal), or at the power supplies and the machine's power "
        "limit (hw-power-brake). hw-slowdown alone can last a moment only: look again.",
        _throttled,
        ("hosts.md §4.4",),
        effect="Everything on this GPU runs at a fraction of its speed.",
        detected="Bits 0x40, 0x80 or 0x8 of clocks_event_reasons.active at the moment of the probe. Idle clocks and "
        "the power limit (0x1, 0x4) are normal and are left out.",
        messages=("HW Thermal Slowdown : Active", "HW Power Brake Slowdown : Active"),
        sources=("NVIDIA/go-nvml nvml.h nvmlClocksEventReason*", "nvidia-smi --help-query-gpu"),
    ),
    Rule(
        "GW-GPU-028",
        "warning",
        "the kernel log holds other errors of a GPU",
        "The driver reported Xid errors since the machine was started. The device plugin takes a GPU with such an "
        "error out of service and does not take it back before it is restarted.",
        "Look the number up in NVIDIA's list of Xid errors. If the node offers fewer GPUs than it has, drain it, reset "
        "the GPU or reboot, and restart the device plugin's pod.",
        _xid_errors,
        ("kubernetes.md §1.14 #37", "hosts.md §3.4"),
        effect="allocatable nvidia.com/gpu is lower than capacity, and pods wait.",
        detected="Lines `NVRM: Xid` in the kernel log, without those that an application causes (13, 31, 43, 45, 68, "
        "109) and those that have a rule of their own.",
        messages=("XidCriticalError", "NVRM: Xid (PCI:0000:ca:00): 62, pid='<unknown>', name=<unknown>"),
        sources=("NVIDIA/k8s-device-plugin internal/rm/health.go", "docs.nvidia.com/deploy/xid-errors"),
    ),
    Rule(
        "GW-GPU-029",
        "warning",
        "nvidia-smi may not read all of a GPU",
        "The account of the probe, or the container that it runs in, lacks the right.",
        "Let gpuwizard have root on this host, or look at the modes of /dev/nvidia* and at the module parameters "
        "NVreg_DeviceFileMode and NVreg_DeviceFileGID.",
        _denied,
        ("hosts.md §4.3",),
        effect="These facts are not known, and rules about them say nothing.",
        detected="`[Insufficient Permissions]` in cells of nvidia-smi's query.",
        messages=("[Insufficient Permissions]",),
        sources=("utkuozdemir/nvidia_gpu_exporter docs/CONFIGURE.md",),
    ),
)
