"""Rules about what joins GPUs: fabric manager, NVLink 5, IMEX (`hosts.md §3.5`)."""

from collections.abc import Callable

from gpuwizard.facts.model import Gpu, Probe, ServiceState
from gpuwizard.findings.driver.words import applies, mismatched
from gpuwizard.findings.gpu.words import shown_named
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES"]

_RUNNING = ("active", "activating", "reloading")
_RACK = ("10de:2941", "10de:31a1", "10de:31c2", "10de:31c3")  # GB200 and GB300: the switches are in trays of their own
_STARTING = 600  # seconds of uptime in which a fabric may still be trained


def _has_switches(probe: Probe) -> bool:
    """The host itself has to run a fabric manager; the GPU Operator's driver container brings its own."""
    return (
        applies(probe)
        and probe.facts.driver.installer != "operator"
        and (probe.facts.nvswitches > 0 or probe.facts.driver.nvlink5 is True)
    )


def _in_rack(probe: Probe) -> bool:
    gpus = installed_gpus(probe)
    return applies(probe) and bool(gpus) and all(gpu.pci_id in _RACK for gpu in gpus) and not probe.facts.nvswitches


def _manager(probe: Probe) -> ServiceState | None:
    """The unit of the fabric manager, when systemd was asked and it is installed."""
    unit = probe.facts.driver.fabric_manager
    return unit if unit is not None and unit.loaded else None


def _what(probe: Probe) -> str:
    facts = probe.facts
    return f"{facts.nvswitches} NVSwitches on the bus" if facts.nvswitches else "NVLink 5 switches (SW_MNG)"


def _state(unit: ServiceState) -> str:
    parts = [unit.active or "unknown", *(p for p in (unit.sub, unit.result, unit.enabled) if p)]
    return f"{unit.name}: {', '.join(parts)}"


def _log(probe: Probe) -> tuple[str, ...]:
    return tuple(f"/var/log/fabricmanager.log: {line}" for line in probe.facts.driver.fabric_manager_log[-3:])


def _wrong_version(probe: Probe) -> Verdict | None:
    driver, unit = probe.facts.driver, _manager(probe)
    if not _has_switches(probe) or unit is None or mismatched(driver):
        return None
    if driver.fabric_manager_version is None or driver.loaded is None:
        return None
    if driver.fabric_manager_version == driver.loaded:
        return None
    lines = (f"fabric manager: {driver.fabric_manager_version}", f"loaded module: {driver.loaded}", _state(unit))
    return Verdict((*lines, *_log(probe)), severity="warning" if unit.active == "active" else None)


def _stopped(probe: Probe) -> Verdict | None:
    unit = _manager(probe)
    if not _has_switches(probe) or unit is None or unit.active is None or unit.active in _RUNNING:
        return None
    if _wrong_version(probe) is not None or probe.facts.driver.loaded is None:
        return None
    return Verdict((_what(probe), _state(unit), *_log(probe)))


def _missing_on_nvlink5(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    unit = driver.fabric_manager
    if driver.nvlink5 is not True or probe.facts.nvswitches or unit is None or unit.loaded is not False:
        return None
    if not _has_switches(probe) or driver.loaded is None:
        return None
    return Verdict((_what(probe), f"{unit.name} is not installed"))


def _modules_for_nvlink5(probe: Probe) -> Verdict | None:
    driver = probe.facts.driver
    if driver.nvlink5 is not True or driver.modules_loaded is None or not applies(probe):
        return None
    missing = [name for name in ("mlx5_core", "ib_umad") if name not in driver.modules_loaded]
    return Verdict((_what(probe), *(f"module {name} is not loaded" for name in missing))) if missing else None


def _superfluous(probe: Probe) -> Verdict | None:
    unit = _manager(probe)
    if unit is None or unit.active != "failed" or not _in_rack(probe):
        return None
    return Verdict((shown_named(installed_gpus(probe)[0]), _state(unit), *_log(probe)))


def _training(probe: Probe) -> Verdict | None:
    gpus = [gpu for gpu in installed_gpus(probe) if gpu.fabric_state in ("In Progress", "Not Started") or _failed(gpu)]
    if not gpus or any(check(probe) for check in (_wrong_version, _stopped, _missing_on_nvlink5, _no_manager)):
        return None
    if all(gpu.fabric_state == "Not Started" for gpu in gpus) and not _has_switches(probe):
        return None  # nothing was ever to join it
    uptime = probe.facts.driver.uptime_seconds
    lines = [_fabric(gpu) for gpu in gpus[:8]]
    unit = _manager(probe)
    lines += [_state(unit)] if unit is not None else []
    remedy = _IN_RACK if _in_rack(probe) else None
    if uptime is not None and uptime < _STARTING and not any(_failed(gpu) for gpu in gpus):
        lines.append(f"the host has been up for {uptime / 60:.0f} min only: the fabric may still be starting")
        return Verdict((*lines, *_log(probe)), severity="warning", remedy=remedy)
    return Verdict((*lines, *_log(probe)), remedy=remedy)


def _failed(gpu: Gpu) -> bool:
    """The fabric is done with the GPU and did not take it: the status counts as soon as the state is `Completed`."""
    return gpu.fabric_state == "Completed" and gpu.fabric_status not in (None, "Success")


_IN_RACK = (
    "The switches of this rack are in trays of their own: look at the fabric manager there (NVOS, NMX) and at the "
    "cables of this tray. The tray itself needs no fabric manager."
)


def _fabric(gpu: Gpu) -> str:
    status = f", fabric.status = {gpu.fabric_status}" if gpu.fabric_status else ""
    return f"{shown_named(gpu)}: fabric.state = {gpu.fabric_state}{status}"


def _no_manager(probe: Probe) -> bool:
    """Another rule says that there is no fabric manager at all."""
    return probe.facts.nvswitches > 0 and "nvidia-fabricmanager" not in probe.facts.components


def _imex_twice(probe: Probe) -> Verdict | None:
    unit = probe.facts.driver.imex
    if unit is None or unit.active not in _RUNNING or probe.facts.driver.compute_domains is not True:
        return None
    return Verdict((_state(unit), "/var/lib/kubelet/plugins/compute-domain.nvidia.com is there"))


def _imex_failed(probe: Probe) -> Verdict | None:
    unit = probe.facts.driver.imex
    if unit is None or unit.active != "failed" or not _in_rack(probe) or probe.facts.driver.compute_domains:
        return None
    return Verdict((_state(unit),))


def _rule(
    rule_id: str,
    check: Callable[[Probe], Verdict | None],
    title: str,
    cause: str,
    remedy: str,
    effect: str,
    detected: str,
    messages: tuple[str, ...],
    sources: tuple[str, ...],
    covers: tuple[str, ...] = ("hosts.md §3.5",),
    instead_of: tuple[str, ...] = (),
) -> Rule:
    return Rule(rule_id, "error", title, cause, remedy, check, covers, effect, detected, messages, sources, instead_of)


_FABRIC_ROWS = ("hosts.md §3.2 #11", "hosts.md §3.5", "kubernetes.md §1.14 #31")
_802 = "CUDA_ERROR_SYSTEM_NOT_READY"
_GPUD = ("leptonai/gpud components/accelerator/nvidia/fabric-manager", "NVIDIA/gpu-operator#1043")

RULES = (
    _rule(
        "GW-DRIVER-056",
        _stopped,
        "the fabric manager does not run",
        "The host has NVSwitches, nvidia-fabricmanager is installed, and it was not started or has failed.",
        "`systemctl enable --now nvidia-fabricmanager`; when it fails read /var/log/fabricmanager.log and "
        "`journalctl -u nvidia-fabricmanager -b`.",
        "nvidia-smi works, and every CUDA program fails with error 802.",
        "NVSwitches on the bus (or in the vital product data of an InfiniBand function), and the state of "
        "nvidia-fabricmanager.service.",
        ("system not yet initialized", _802),
        (*_GPUD, "NVIDIA/gpu-operator#286"),
        _FABRIC_ROWS,
    ),
    _rule(
        "GW-DRIVER-057",
        _wrong_version,
        "the fabric manager is not of the driver's version",
        "The fabric manager works with exactly its own driver version and refuses any other.",
        "Install nvidia-fabricmanager in exactly the version of the loaded driver and restart it; hold both packages "
        "together.",
        "The fabric manager does not start, and every CUDA program fails with error 802. One that still runs will fail "
        "at its next start.",
        "The fabric manager's own version (or its package's) against the loaded module. A warning while it runs.",
        ("Fabric Manager version", "system not yet initialized", _802),
        (*_GPUD, "NVIDIA/gpu-driver-container"),
        _FABRIC_ROWS,
    ),
    _rule(
        "GW-DRIVER-058",
        _missing_on_nvlink5,
        "NVLink 5 switches without a fabric manager",
        "B200 and B300 boards have switches that need nvidia-fabricmanager with nvlsm. They are no functions of the "
        "PCI bus of their own: they show as an InfiniBand function whose product data says SW_MNG.",
        "Install nvidia-fabricmanager in exactly the driver's version, nvlsm and infiniband-diags, load ib_umad, and "
        "enable nvidia-fabricmanager.service.",
        "nvidia-smi works, and every CUDA program fails with error 802.",
        "SW_MNG in the vital product data of an InfiniBand function, and no nvidia-fabricmanager.service.",
        ("system not yet initialized", _802),
        ("NVIDIA/gpu-driver-container", "NVIDIA/gpu-operator#2781"),
        _FABRIC_ROWS,
    ),
    _rule(
        "GW-DRIVER-059",
        _modules_for_nvlink5,
        "NVLink 5 lacks kernel modules for its switches",
        "The fabric manager reaches NVLink 5 switches through mlx5_core and ib_umad, and one of them is not loaded.",
        "`modprobe ib_umad`, write mlx5_core and ib_umad into /etc/modules-load.d/nvlink5.conf, and restart "
        "nvidia-fabricmanager.",
        "The fabric manager finds no switches, and every CUDA program fails with error 802.",
        "SW_MNG in the vital product data of an InfiniBand function, and /sys/module without mlx5_core or ib_umad.",
        ("system not yet initialized", _802),
        ("NVIDIA/gpu-driver-container", "NVIDIA/gpu-operator#2781"),
        ("hosts.md §3.5", "kubernetes.md §1.14 #31"),
    ),
    Rule(
        "GW-DRIVER-060",
        "info",
        "this tray needs no fabric manager",
        "In a GB200 or GB300 NVL72 rack the switches are in trays of their own. A fabric manager that is started on a "
        "compute tray ends at once with NV_WARN_NOTHING_TO_DO. That is no fault.",
        "Nothing to do, or `systemctl disable nvidia-fabricmanager`.",
        _superfluous,
        ("hosts.md §3.5",),
        effect="None: the unit is shown as failed.",
        detected="The PCI ids of GB200 or GB300, no NVSwitch, and nvidia-fabricmanager.service failed.",
        messages=("NV_WARN_NOTHING_TO_DO",),
        sources=("leptonai/gpud components/accelerator/nvidia/fabric-manager",),
    ),
    _rule(
        "GW-DRIVER-061",
        _training,
        "the NVLink fabric is not ready",
        "The GPU waits to be joined to the fabric: the fabric manager is still at work, failed with this GPU, or a "
        "link is broken.",
        "Read /var/log/fabricmanager.log and `nvidia-smi -q | grep -A4 Fabric`; restart nvidia-fabricmanager, then "
        "reboot.",
        "CUDA fails on this GPU with error 802.",
        "nvidia-smi's columns fabric.state, and fabric.status once the state is Completed. A warning in the first ten "
        "minutes after boot.",
        ("system not yet initialized", _802, "State : In Progress"),
        ("NVIDIA/cloud-native-docs gpu-operator/troubleshooting.rst", "NVIDIA/go-nvml nvml.h"),
        _FABRIC_ROWS,
    ),
    Rule(
        "GW-DRIVER-062",
        "warning",
        "IMEX is run by the host and by Kubernetes",
        "The DRA driver's ComputeDomains start nvidia-imex in pods of their own. The host's nvidia-imex.service uses "
        "the same ports and channels.",
        "`systemctl disable --now nvidia-imex` on nodes where the DRA driver manages compute domains.",
        _imex_twice,
        ("hosts.md §3.5",),
        effect="Pods of a ComputeDomain fail to start or get channels that are not theirs.",
        detected="nvidia-imex.service is active, and the kubelet has the plugin compute-domain.nvidia.com of the DRA "
        "driver.",
        messages=("nvidia-imex", "ComputeDomain"),
        sources=("NVIDIA/k8s-dra-driver-gpu", "docs.nvidia.com/multi-node-nvlink-systems/imex-guide"),
    ),
    Rule(
        "GW-DRIVER-063",
        "warning",
        "IMEX failed",
        "nvidia-imex lets GPUs of several trays share memory, and its service failed: no /etc/nvidia-imex/"
        "nodes_config.cfg, a node that does not answer, or another version than the driver's.",
        "Read `journalctl -u nvidia-imex -b` and /var/log/nvidia-imex.log; use the driver's version on all nodes.",
        _imex_failed,
        ("hosts.md §3.5",),
        effect="Jobs over several trays cannot share GPU memory; those on one tray work.",
        detected="nvidia-imex.service failed on a GB200 or GB300 tray.",
        messages=("nvidia-imex.service: Failed",),
        sources=("docs.nvidia.com/multi-node-nvlink-systems/imex-guide",),
    ),
)
