"""Rules about the GPUs themselves."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, looked_at, shown_gpu

__all__ = ["RULES"]


def _no_gpu(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if not looked_at(probe) or installed_gpus(probe) or facts.os.kind in ("wsl2", "jetson"):
        return None
    if any(unseen.what == "PCI devices" for unseen in facts.unseen):
        return None
    switches = f", {facts.nvswitches} NVSwitches" if facts.nvswitches else ""
    return Verdict((f"no PCI function of vendor 10de with a display class{switches}",))


def _counts_differ(probe: Probe) -> Verdict | None:
    gpus = installed_gpus(probe)
    answered = [gpu for gpu in gpus if "nvidia-smi" in gpu.seen_by]
    on_bus = [gpu for gpu in gpus if "pci" in gpu.seen_by]
    if not answered or not on_bus or len(answered) == len(on_bus) == len(gpus):
        return None
    lost = [shown_gpu(gpu) for gpu in gpus if len(gpu.seen_by) == 1]
    problem = (f"nvidia-smi: {probe.facts.driver.problem}",) if probe.facts.driver.problem else ()
    return Verdict((f"PCI shows {len(on_bus)} GPUs, nvidia-smi {len(answered)}", *lost, *problem))


def _unified(probe: Probe) -> Verdict | None:
    shared = [gpu for gpu in installed_gpus(probe) if gpu.unified_memory]
    if not shared:
        return None
    total = probe.facts.memory_bytes
    size = f"; the host has {total / 1024**3:.0f} GiB" if total is not None else ""
    return Verdict(tuple(f"{shown_gpu(gpu)}: memory is shared with the CPU{size}" for gpu in shared))


RULES = (
    Rule(
        "GW-GPU-001",
        "info",
        "no NVIDIA GPU",
        "The PCI bus shows no NVIDIA GPU that this host could use. GPUs that are passed through to a virtual machine "
        "and virtual functions do not count.",
        "Nothing to do when this host is not meant to have one. Else check that the card is seated and powered, or "
        "that the hypervisor passes it through.",
        _no_gpu,
        ("hosts.md §2.2",),
    ),
    Rule(
        "GW-GPU-002",
        "error",
        "the bus and nvidia-smi count different GPUs",
        "A GPU is on the bus but the driver does not run it: it has fallen off the bus, needs a reset, is excluded, "
        "or is not supported by this driver.",
        "Read `dmesg | grep -E 'NVRM|Xid'` for the address named above; a reboot brings back a GPU that is lost.",
        _counts_differ,
        ("hosts.md §0 rule 5",),
    ),
    Rule(
        "GW-GPU-003",
        "info",
        "GPU and CPU share one memory",
        "On this machine the GPU has no memory of its own, so nvidia-smi reports none. gpuwizard shows the host's "
        "memory and says so.",
        "Nothing to do.",
        _unified,
        ("hosts.md §2.5",),
    ),
)
