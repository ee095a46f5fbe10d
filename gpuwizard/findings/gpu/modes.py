"""Rules about how GPUs are set up: MIG, compute mode, virtual GPUs and their licence, memory shared with the CPU."""

import re

from gpuwizard.facts.model import Gpu, Probe
from gpuwizard.facts.text import version_key
from gpuwizard.findings.gpu.words import each, shown_named
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, shown_gpu

__all__ = ["RULES"]

_BAD_MIG_DRIVERS = ("570.124.06", "570.158.01")
_FIXED_MIG_DRIVER = "570.172.08"


def _unified(probe: Probe) -> Verdict | None:
    shared = [gpu for gpu in installed_gpus(probe) if gpu.unified_memory]
    if not shared:
        return None
    total = probe.facts.memory_bytes
    size = f"; the host has {total / 1024**3:.0f} GiB" if total is not None else ""
    return Verdict(tuple(f"{shown_gpu(gpu)}: memory is shared with the CPU{size}" for gpu in shared))


def _unified_in_kubernetes(probe: Probe) -> Verdict | None:
    if probe.facts.kubernetes.flavour in ("none", "unknown"):
        return None
    return each(probe, lambda gpu: "its driver reports no memory size" if gpu.unified_memory else None)


def _mig_pending(probe: Probe) -> Verdict | None:
    def said(gpu: Gpu) -> str | None:
        if gpu.mig is None or gpu.mig_pending is None or gpu.mig == gpu.mig_pending:
            return None
        return f"mig.mode.current = {gpu.mig}, mig.mode.pending = {gpu.mig_pending}"

    return each(probe, said)


def _mig_empty(probe: Probe) -> Verdict | None:
    def said(gpu: Gpu) -> str | None:
        on = gpu.mig == "Enabled" and gpu.mig_pending != "Disabled"
        return "MIG mode is on, `nvidia-smi -L` lists no MIG device" if on and gpu.mig_instances == () else None

    return each(probe, said)


def _mixed_mig(probe: Probe) -> Verdict | None:
    gpus = [gpu for gpu in installed_gpus(probe) if gpu.mig is not None]
    sliced = [gpu for gpu in gpus if gpu.mig == "Enabled" and gpu.mig_devices]
    if not sliced:
        return None
    profiles = {profile for gpu in sliced for profile in gpu.mig_devices}
    whole = [gpu for gpu in gpus if gpu.mig == "Disabled"]
    if len(profiles) == 1 and not whole:
        return None
    shown = [f"{shown_named(gpu)}: {', '.join(gpu.mig_devices)}" for gpu in sliced]
    return Verdict((*shown, *(f"{shown_named(gpu)}: MIG is off" for gpu in whole)))


def _mig_driver(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver.loaded
    sliced = [gpu for gpu in installed_gpus(probe) if gpu.mig == "Enabled"]
    if not sliced or driver is None or not re.fullmatch(r"570(\.\d{1,4}){1,2}", driver):
        return None
    first, last = map(version_key, _BAD_MIG_DRIVERS)
    if not first <= version_key(driver) <= last:
        return None
    whole = [gpu for gpu in installed_gpus(probe) if gpu.mig == "Disabled"]
    evidence = [f"driver {driver}", *(f"{shown_named(gpu)}: MIG is on" for gpu in sliced)]
    evidence += [f"{shown_named(gpu)}: MIG is off" for gpu in whole]
    return Verdict(tuple(evidence), severity=None if whole else "info")


def _license(probe: Probe) -> Verdict | None:
    throttled = False

    def said(gpu: Gpu) -> str | None:
        nonlocal throttled
        license_ = gpu.vgpu_license
        if license_ is None or license_.licensed is not False or gpu.virtualization not in ("vgpu", None):
            return None
        throttled = throttled or license_.restricted is True
        return f"License Status: {license_.status}"

    verdict = each(probe, said)
    return Verdict(verdict.evidence, severity="error") if verdict is not None and throttled else verdict


def _prohibited(probe: Probe) -> Verdict | None:
    return each(probe, lambda gpu: "compute_mode = Prohibited" if gpu.compute_mode == "Prohibited" else None)


def _exclusive(probe: Probe) -> Verdict | None:
    def said(gpu: Gpu) -> str | None:
        return f"compute_mode = {gpu.compute_mode}" if (gpu.compute_mode or "").startswith("Exclusive") else None

    return each(probe, said)


_SHARED = (
    Rule(
        "GW-GPU-003",
        "info",
        "GPU and CPU share one memory",
        "On this machine the GPU has no memory of its own, so nvidia-smi reports none, or a part that is too small. "
        "gpuwizard shows the host's memory and says so.",
        "Nothing to do.",
        _unified,
        ("hosts.md §2.5", "hosts.md §0 rule 9"),
        effect="Tools that want a memory size from nvidia-smi or NVML show nothing, or fail.",
        detected="The PCI id or the product name is that of GB10, N1X or a Jetson.",
        messages=("memory.total [N/A]", "Memory-Usage: Not Supported"),
        sources=("leptonai/gpud components/accelerator/nvidia/memory", "XuehaiPan/nvitop#208"),
    ),
    Rule(
        "GW-GPU-027",
        "info",
        "old device plugins do not start on this GPU",
        "The GPU shares the host's memory and reports no size of its own. Device plugin and GPU Feature Discovery "
        "before 0.17.4 take that for an error.",
        "Use GPU Operator 25.10 or later, or device plugin 0.17.4, 0.18 or later. There will be no label "
        "nvidia.com/gpu.memory, and DCGM has no figures for frame buffer memory.",
        _unified_in_kubernetes,
        ("kubernetes.md §1.14 #35",),
        effect="With an older plugin the node offers no GPU.",
        detected="A GPU with unified memory on a host that runs Kubernetes.",
        messages=("error getting device memory: Not Supported", "Ignoring error getting device memory: Not Supported"),
        sources=("NVIDIA/k8s-device-plugin#1482", "NVIDIA/gpu-operator#1794"),
    ),
)
_MIG = (
    Rule(
        "GW-GPU-013",
        "warning",
        "a change of MIG mode waits for a reset",
        "MIG mode was switched while the GPU was in use, so it takes effect with the next reset.",
        "Stop what uses the GPU: pods, DCGM, monitoring, a display. Then `nvidia-smi --gpu-reset -i N` as root, or "
        "reboot. With the GPU Operator, let mig-manager do it: fix the label nvidia.com/mig.config and drain the node.",
        _mig_pending,
        ("hosts.md §4.4", "kubernetes.md §7"),
        effect="MIG devices cannot be made or removed, and mig-manager reports mig.config.state=failed.",
        detected="nvidia-smi's columns mig.mode.current and mig.mode.pending differ.",
        messages=(
            "nvidia.com/mig.config.state=failed",
            "Warning: MIG mode is in pending enable state",
            "unable to apply MIG config with MIG mode disabled",
        ),
        sources=("NVIDIA/cloud-native-docs gpu-operator/gpu-operator-mig.rst", "NVIDIA/mig-parted"),
    ),
    Rule(
        "GW-GPU-014",
        "error",
        "MIG is on and there is no MIG device",
        "In MIG mode a GPU runs nothing but its MIG devices, and none has been made.",
        "Make them: with the GPU Operator label the node nvidia.com/mig.config=all-1g.10gb (a name from its "
        "ConfigMap), by hand `nvidia-smi mig -cgi PROFILE -C`. Or switch MIG off: `nvidia-smi -i N -mig 0`. Only with "
        "dynamic MIG of the DRA driver is that as it should be.",
        _mig_empty,
        ("kubernetes.md §7",),
        effect="Programs find no CUDA device on this GPU, and the node offers none of it.",
        detected="mig.mode.current is Enabled and `nvidia-smi -L` lists no MIG device below the GPU.",
        messages=("at least one MIG device is enabled but empty", "no CUDA-capable device is detected"),
        sources=("NVIDIA/k8s-device-plugin internal/lm/mig-strategy.go", "nvidia-smi(1)"),
    ),
    Rule(
        "GW-GPU-015",
        "info",
        "MIG devices of different profiles",
        "The GPUs of this host are not all cut in the same way. The MIG strategy `single` wants one profile on all "
        "GPUs of a node.",
        "Use the strategy `mixed`: `kubectl patch clusterpolicy/cluster-policy --type=merge -p "
        '\'{"spec":{"mig":{"strategy":"mixed"}}}\'`. Pods then ask for nvidia.com/mig-1g.10gb and the like.',
        _mixed_mig,
        ("kubernetes.md §7",),
        effect="With `single` the device plugin offers no GPU of this node.",
        detected="The profiles that `nvidia-smi -L` lists, and GPUs with MIG switched off beside them.",
        messages=("more than one MIG device type present on node", "devices with MIG enabled and disable detected"),
        sources=(
            "NVIDIA/k8s-device-plugin internal/lm/mig-strategy.go",
            "NVIDIA/cloud-native-docs gpu-operator/gpu-operator-mig.rst",
        ),
    ),
    Rule(
        "GW-GPU-016",
        "warning",
        "this driver blocks pods where MIG devices and whole GPUs are mixed",
        f"Drivers {_BAD_MIG_DRIVERS[0]} to {_BAD_MIG_DRIVERS[1]} have a fault: pods are not scheduled on a node that "
        "has MIG devices and whole GPUs.",
        f"Upgrade the driver to {_FIXED_MIG_DRIVER} or later, or to branch 580, and restart the kubelet when pods "
        "still wait.",
        _mig_driver,
        ("kubernetes.md §1.14 #42",),
        effect="GPU pods wait for ever (Pending, ContainerCreating) as soon as one GPU has MIG on and another has not.",
        detected="The version of the loaded driver, and MIG mode on.",
        messages=("Pending", "ContainerCreating", "Insufficient nvidia.com/gpu"),
        sources=("NVIDIA/gpu-operator#1361", "NVIDIA/cloud-native-docs#219"),
    ),
)
_OTHERS = (
    Rule(
        "GW-GPU-017",
        "warning",
        "a virtual GPU has no licence",
        "The guest has not got a licence for its vGPU: no client token, a licence server that it cannot reach, or a "
        "clock that is wrong. For a minute or two after the start that is normal.",
        "Put the client token into /etc/nvidia/ClientConfigToken, check the clock, restart nvidia-gridd.service and "
        "read its journal. `nvidia-smi -q | grep -A2 Licensed` shows the state.",
        _license,
        ("hosts.md §2.5",),
        effect="Without a licence the vGPU runs at full speed for a time and is then throttled to a fraction of it: "
        "`Unlicensed (Restricted)`.",
        detected="License Status in `nvidia-smi -q`, which is asked only where a GPU's name or nvidia-gridd shows a "
        "virtual GPU.",
        messages=("Unlicensed (Restricted)", "Unlicensed (Unrestricted)"),
        sources=("docs.nvidia.com/vgpu Client Licensing User Guide",),
    ),
    Rule(
        "GW-GPU-022",
        "error",
        "a GPU's compute mode is Prohibited",
        "Somebody set the compute mode so that no program may use the GPU for computing.",
        "As root: `nvidia-smi -i N -c DEFAULT`.",
        _prohibited,
        ("hosts.md §4.4",),
        effect="CUDA programs fail: CUDA-capable device(s) is/are busy or unavailable.",
        detected="nvidia-smi's column compute_mode.",
        messages=("CUDA-capable device(s) is/are busy or unavailable",),
        sources=("nvidia-smi(1)",),
    ),
    Rule(
        "GW-GPU-023",
        "info",
        "a GPU's compute mode is exclusive",
        "Only one process at a time may use the GPU. MPS sets that by itself; else somebody set it.",
        "Nothing to do where MPS shares the GPU. Else, as root: `nvidia-smi -i N -c DEFAULT`.",
        _exclusive,
        ("hosts.md §4.4",),
        effect="Time-slicing does not work on this GPU: the second pod on it fails.",
        detected="nvidia-smi's column compute_mode.",
        messages=("CUDA-capable device(s) is/are busy or unavailable", "EXCLUSIVE_PROCESS"),
        sources=("nvidia-smi(1)", "NVIDIA/k8s-device-plugin MPS"),
    ),
)

RULES = (*_SHARED, *_MIG, *_OTHERS)
