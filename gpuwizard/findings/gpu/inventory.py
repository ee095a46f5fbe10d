"""Rules about which GPUs the host has: none, one that only one side knows, and functions that are no GPU of it."""

from gpuwizard.facts.model import Gpu, PciDevice, Probe
from gpuwizard.findings.gpu.age import is_before_turing, unsupported
from gpuwizard.findings.gpu.health import off_the_bus
from gpuwizard.findings.gpu.words import places, shown_named
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, looked_at, shown_gpu

__all__ = ["RULES"]

_FOREIGN = ("nouveau", "nova_core", "nova")


def _no_gpu(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if not looked_at(probe) or installed_gpus(probe) or facts.os.kind in ("wsl2", "jetson"):
        return None
    if any(unseen.what == "PCI devices" for unseen in facts.unseen):
        return None
    switches = f", {facts.nvswitches} NVSwitches" if facts.nvswitches else ""
    others = tuple(_shown_device(d) for d in facts.other_devices if d.kind != "nvswitch")
    return Verdict((f"no PCI function of vendor 10de with a display class{switches}", *others))


def _shown_device(device: PciDevice) -> str:
    driver = f", bound to {device.bound_driver}" if device.bound_driver else ""
    return f"{device.pci} {device.name or device.pci_id}: {device.kind.replace('-', ' ')}{driver}"


def _explained(probe: Probe, gpu: Gpu) -> bool:
    """Another rule says why this GPU is missing."""
    return (
        gpu.fault is not None
        or gpu.excluded is True
        or bool(gpu.denied)
        or gpu.bound_driver in _FOREIGN
        or (probe.facts.driver.flavour == "open" and is_before_turing(gpu))
        or unsupported(probe, gpu) is not None
        or off_the_bus(probe, gpu) is not None
    )


def _counts_differ(probe: Probe) -> Verdict | None:
    gpus = installed_gpus(probe)
    answered = [gpu for gpu in gpus if "nvidia-smi" in gpu.seen_by and gpu.name is not None]
    on_bus = [gpu for gpu in gpus if "pci" in gpu.seen_by]
    if not answered or not on_bus or probe.facts.os.kind in ("container", "wsl2", "jetson"):
        return None
    lost = [gpu for gpu in gpus if len(gpu.seen_by) == 1 and not _explained(probe, gpu)]
    if not lost:
        return None
    problem = (f"nvidia-smi: {probe.facts.driver.problem}",) if probe.facts.driver.problem else ()
    counts = f"PCI shows {len(on_bus)} GPUs, nvidia-smi {len(answered)}"
    return Verdict(
        (counts, *(f"{shown_gpu(gpu)}: seen by {gpu.seen_by[0]} alone" for gpu in lost), *problem),
        about=places(lost),
    )


def _excluded(probe: Probe) -> Verdict | None:
    excluded = [gpu for gpu in installed_gpus(probe) if gpu.excluded]
    if not excluded:
        return None
    return Verdict(
        tuple(f"/proc/driver/nvidia/gpus/{gpu.pci}/information: GPU Excluded: Yes ({gpu.name})" for gpu in excluded)
    )


def _passed_through(probe: Probe) -> Verdict | None:
    devices = [d for d in probe.facts.other_devices if d.kind == "passed-through"]
    return Verdict(tuple(_shown_device(d) for d in devices)) if devices else None


def _vgpu_host(probe: Probe) -> Verdict | None:
    functions = [d for d in probe.facts.other_devices if d.kind == "virtual-function"]
    hosts = [gpu for gpu in installed_gpus(probe) if gpu.virtualization in ("host-vgpu", "host-vsga")]
    if not functions and not hosts:
        return None
    evidence = [
        f"{shown_named(gpu)}: {gpu.virtual_functions} virtual functions switched on"
        if gpu.virtual_functions
        else f"{shown_named(gpu)}: its driver offers types of virtual GPUs"
        for gpu in hosts
    ]
    evidence += [_shown_device(d) for d in functions[:8]]
    if len(functions) > 8:
        evidence.append(f"and {len(functions) - 8} more virtual functions")
    return Verdict(tuple(evidence))


def _display_class(probe: Probe) -> Verdict | None:
    devices = [d for d in probe.facts.other_devices if d.kind == "display"]
    return Verdict(tuple(f"{_shown_device(d)}, class 0380" for d in devices)) if devices else None


def _different_models(probe: Probe) -> Verdict | None:
    named = [gpu for gpu in installed_gpus(probe) if gpu.name is not None and "nvidia-smi" in gpu.seen_by]
    models = sorted({gpu.name or "" for gpu in named if "DGX Display" not in (gpu.name or "")})
    if len(models) < 2:
        return None
    return Verdict(tuple(f"{sum(gpu.name == model for gpu in named)} × {model}" for model in models))


_INVENTORY = (
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
        effect="The host cannot run GPU pods; gpuwizard plans nothing for GPUs on it.",
        detected="No function in /sys/bus/pci/devices has vendor 10de and class 0300 or 0302, apart from virtual "
        "functions and those that vfio holds.",
        messages=("No devices were found", "No devices found. Waiting indefinitely"),
        sources=("go-nvlib pkg/nvpci", "pciutils/pciids"),
    ),
    Rule(
        "GW-GPU-002",
        "error",
        "the bus and nvidia-smi count different GPUs",
        "A GPU is on the bus but the driver does not run it, and neither nvidia-smi nor the bus says why. Its start "
        "failed: firmware, power, PCI resources, or the wrong flavour of the module.",
        "Read `dmesg | grep -E 'NVRM|Xid'` for the address named above. Then power the machine off and on; a warm "
        "reboot does not start every GPU again.",
        _counts_differ,
        ("hosts.md §0 rule 5",),
        effect="The node offers fewer GPUs than it has. An index such as CUDA_VISIBLE_DEVICES=1 means another GPU.",
        detected="GPUs are counted twice, on the PCI bus and in nvidia-smi's answer, and joined by their address. GPUs "
        "whose absence another rule explains are left out.",
        messages=("RmInitAdapter failed!", "No devices were found"),
        sources=("NVIDIA/open-gpu-kernel-modules#789", "NVIDIA/open-gpu-kernel-modules#862"),
    ),
    Rule(
        "GW-GPU-006",
        "info",
        "a GPU is excluded by the driver's settings",
        "The module parameter NVreg_ExcludedGpus (before driver 470: NVreg_GpuBlacklist) names this GPU, so the driver "
        "leaves it alone.",
        "Nothing to do when that is meant. Else remove it from `options nvidia NVreg_ExcludedGpus=…` below "
        "/etc/modprobe.d and reboot. `nvidia-smi -B` lists the excluded GPUs.",
        _excluded,
        ("hosts.md §3.1",),
        effect="nvidia-smi and Kubernetes do not see this GPU.",
        detected="`GPU Excluded: Yes` in the driver's own list below /proc/driver/nvidia/gpus.",
        messages=("GPU Excluded: Yes",),
        sources=("NVIDIA/open-gpu-kernel-modules kernel-open/nvidia/nv-procfs.c", "nvidia-smi(1)"),
    ),
    Rule(
        "GW-GPU-018",
        "info",
        "a GPU is passed through to virtual machines",
        "vfio or another driver that hands devices to virtual machines holds it: KubeVirt, Proxmox, Kata. That is no "
        "fault.",
        "Nothing to do: gpuwizard does not count it and never touches it. Containers of this host cannot use it.",
        _passed_through,
        ("hosts.md §2.4",),
        effect="The GPU belongs to a guest; the host's driver and nvidia-smi do not see it.",
        detected="The function's driver in sysfs is vfio-pci, nvgrace_gpu_vfio_pci, pci-stub or pciback.",
        messages=("Kernel driver in use: vfio-pci",),
        sources=("Linux Documentation/driver-api/vfio.rst", "NVIDIA/gpu-operator vfio-manager"),
    ),
    Rule(
        "GW-GPU-019",
        "info",
        "this host hands out virtual GPUs",
        "The vGPU manager runs here: virtual functions are switched on, or the driver offers types of virtual GPUs.",
        "Nothing to do when it is a host for virtual machines. The virtual functions are not counted as GPUs.",
        _vgpu_host,
        ("hosts.md §2.4",),
        effect="The vGPU manager's driver has no CUDA: containers on this host get no GPU from it.",
        detected="sriov_numvfs or mdev_supported_types of the GPU in sysfs, and functions with a physfn link.",
        messages=("nvidia-vgpu-mgr", "Host VGPU"),
        sources=("go-nvlib pkg/nvpci", "Linux Documentation/driver-api/vfio-mediated-device.rst"),
    ),
    Rule(
        "GW-GPU-020",
        "info",
        "an NVIDIA display controller that is not counted as a GPU",
        "Its PCI class is 0380 (display controller, other). NVIDIA's own libraries do not count that class, and "
        "nvidia-smi does not list it.",
        "Nothing to do.",
        _display_class,
        ("hosts.md §2.2",),
        effect="Kubernetes does not offer it.",
        detected="A function of vendor 10de with class 0380 that nvidia-smi does not list.",
        messages=("Display controller: NVIDIA Corporation",),
        sources=("go-nvlib pkg/nvpci", "pciutils/pciids"),
    ),
    Rule(
        "GW-GPU-030",
        "info",
        "different GPU models in one host",
        "Kubernetes counts GPUs of one resource name and labels a node with one product only.",
        "Give the pods a GPU by its UUID or with dynamic resource allocation, or build hosts of one model each.",
        _different_models,
        ("kubernetes.md §4", "hosts.md §10"),
        effect="A pod gets any of them: nvidia.com/gpu.product names one model, and the scheduler cannot choose.",
        detected="nvidia-smi lists more than one product name.",
        messages=("nvidia.com/gpu.product",),
        sources=("NVIDIA/gpu-operator#334",),
    ),
)

RULES = _INVENTORY
