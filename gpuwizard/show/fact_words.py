"""The labels of facts and their values in words: sizes, times, lists, units. None stays None: it is never a value."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime

from gpuwizard.facts.model import (
    CdiSpec,
    ConfigWarning,
    DkmsState,
    DriverFacts,
    Gpu,
    Handler,
    HostFacts,
    HostState,
    KernelFacts,
    KubernetesFacts,
    KubernetesService,
    MigDevice,
    MountSpace,
    OperatorFacts,
    OsFacts,
    PciDevice,
    PrivilegeFacts,
    Reach,
    RuntimeFacts,
    ServiceState,
    Template,
    ToolkitFacts,
    VgpuLicense,
)
from gpuwizard.show.words import amount, clock, count, duration

__all__ = ["INSTEAD", "LABELS", "NOTHING", "OMITTED", "ONLY_FOR", "label", "telling", "words_of"]

LABELS: Mapping[type, Mapping[str, str]] = {
    OsFacts: {"pretty_name": "distribution", "id": "its id", "version_id": "version", "family": "family"},
    KernelFacts: {"release": "kernel", "arch": "architecture", "secure_boot": "Secure Boot"},
    HostFacts: {"hostname": "host name", "memory_bytes": "memory", "components": "units and files"},
    PrivilegeFacts: {"user": "login", "sudo": "root"},
    Gpu: {
        "name": "model",
        "pci": "PCI address",
        "pci_id": "PCI id",
        "uuid": "UUID",
        "memory_bytes": "memory",
        "compute_capability": "compute capability",
        "mig": "MIG",
        "bound_driver": "kernel driver",
        "seen_by": "seen by",
    },
    DriverFacts: {
        "loaded": "loaded",
        "on_disk": "on disk",
        "userspace": "libraries",
        "next_kernel": "for the next kernel",
        "flavour": "module flavour",
        "newest_kernel": "newest kernel",
        "packages": "packages",
    },
    ToolkitFacts: {
        "version": "version",
        "packages": "packages",
        "runtime_path": "nvidia runtime",
        "mode": "mode",
        "config_path": "configuration",
        "cdi_specs": "CDI files",
    },
    RuntimeFacts: {
        "version": "version",
        "running": "running",
        "unit": "unit",
        "socket": "socket",
        "binary": "program",
        "owner": "installed by",
        "config_path": "configuration",
        "config_version": "its version",
        "imports": "imports",
        "handlers": "handlers",
        "default_handler": "default handler",
        "systemd_cgroup": "systemd cgroups",
        "cri": "CRI",
        "cdi": "CDI",
    },
    KubernetesFacts: {
        "flavour": "flavour",
        "version": "version",
        "role": "role",
        "node_name": "node name",
        "service": "unit",
        "active": "running",
        "data_dir": "data",
        "templates": "templates",
    },
    HostState: {
        "cgroup_version": "cgroup version",
        "clock_offset_seconds": "clock",
        "reboot_needed": "reboot needed",
        "space": "room on disk",
    },
    OperatorFacts: {"toolkit": "operator's toolkit", "validations": "validations"},
}
"""Facts that have a line of their own whether or not they are known, in their order."""

OMITTED: Mapping[type, tuple[str, ...]] = {
    OsFacts: ("id_like", "major"),
    RuntimeFacts: ("kind", "pid", "used_by_kubelet"),
    Gpu: ("index",),
}
"""Fields that say nothing that another line does not say."""

INSTEAD = {"cdi_specs": "specs", "templates": "template_states", "mig_devices": "mig_instances", "services": "units"}
"""Fields that are left out where another one says the same and more."""

NOTHING = frozenset(
    (
        "bridge",
        "cgroup_layout",
        "codename",
        "config_error",
        "container",
        "containerd_base_dir",
        "default_kind",
        "default_runtime",
        "ToolkitFacts.driver_root",
        "dgx",
        "dgx_name",
        "effective_error",
        "extended_support",
        "fault",
        "immutable_why",
        "kind_why",
        "l4t",
        "legacy_hook",
        "problem",
        "problem_code",
        "problem_kind",
        "proxmox",
        "reason",
        "running_version",
        "spec_dirs",
        "toolkit_error",
        "toolkit_newer_than_process",
        "variant_id",
        "vgpu_license",
        "workload",
    )
)
"""Fields in which None says that there is nothing of the kind, or that nothing is wrong; of one record or of all."""

ONLY_FOR = {
    "embedded_etcd": ("k3s", "rke2"),
    "rendered_at": ("k3s", "rke2"),
    "search_path": ("k3s", "rke2"),
    "toolkit_changed": ("k3s", "rke2"),
}
"""Fields that other Kubernetes flavours do not have."""

_SPECIAL = {
    "l4t": "Jetson Linux",
    "dgx": "DGX OS",
    "dgx_name": "DGX model",
    "kind": "environment",
    "boot_id": "boot",
    "problem": "nvidia-smi says",
    "libraries": "library files",
    "no_cgroups": "no-cgroups",
    "problem_code": "its exit status",
    "smi_seconds": "nvidia-smi took",
    "clock_offset_seconds": "clock",
    "reboot_why": "what asks for it",
    "swap_bytes": "swap",
    "reach": "registries",
    "selinux": "SELinux",
    "systemd": "systemd",
    "nvlink5": "NVLink 5",
    "imex": "IMEX",
    "imex_channels": "IMEX channels",
    "dkms": "DKMS",
    "ecc": "ECC",
    "ecc_uncorrected": "uncorrected errors",
    "numa_node": "NUMA node",
    "temperature_c": "temperature",
    "vgpu_license": "vGPU licence",
    "mig_devices": "MIG devices",
    "mig_instances": "MIG devices",
    "mig_pending": "MIG after a reset",
    "pci_id": "PCI id",
    "specs": "CDI files",
    "cdi_spec_dirs": "CDI folders",
    "effective_error": "could not be worked out",
    "template_states": "templates",
    "embedded_etcd": "etcd on this host",
}
_USUAL: Mapping[str, tuple[object, ...]] = {
    "kind": ("host",),
    "excluded": (False,),
    "remap_pending": (False,),
    "remap_failed": (False,),
    "retired_pending": (False,),
    "inforom_corrupted": (False,),
    "unified_memory": (False,),
    "virtualization": ("none",),
    "virtual_functions": (0,),
    "recovery_action": ("None",),
    "compute_mode": ("Default",),
    "addressing_mode": ("None",),
    "nvswitches": (0,),
    "restarts": (0,),
    "immutable": (False,),
    "read_only": (False,),
    "in_node_container": (False,),
    "config_newer_than_process": (False,),
    "toolkit_newer_than_process": (False,),
    "needs_daemon_reload": (False,),
    "in_path": (True,),
    "refused": (False,),
    "runfile": (False,),
    "compute_domains": (False,),
    "nvlink5": (False,),
    "extended_support": (False,),
    "runs_pods": (True,),
    "joined": (True,),
}
"""What goes without saying."""

_ROOT = {
    "root": "the login is root",
    "nopasswd": "sudo without a password",
    "password": "sudo with a password",
    "none": "no way to root",
}


def label(record: object, name: str) -> str:
    """What a field is called."""
    chosen = LABELS.get(type(record), {}).get(name)
    return chosen or _SPECIAL.get(name) or name.removesuffix("_bytes").removesuffix("_seconds").replace("_", " ")


def telling(name: str, value: object) -> bool:
    """False for what is empty and for what goes without saying."""
    if value is None or value in _USUAL.get(name, ()):
        return False
    return not (isinstance(value, str | tuple | Mapping) and not value)


def words_of(value: object, name: str = "") -> str:
    """A value in words, on one line. `name` is its field, which knows the unit."""
    match value:
        case None:
            return "not known"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return _number(value, name)
        case str():
            return _ROOT.get(value, value) if name == "sudo" else value
        case Handler():
            program = value.options.get("BinaryName")
            return str(program) if program else ""
        case Mapping() if not value:
            return "none"
        case Mapping() if name == "low_level":
            return ", ".join(f"{key} {path or 'nowhere'}" for key, path in value.items())
        case Mapping():
            return ", ".join(f"{key} {words_of(entry, name)}".rstrip() for key, entry in value.items())
        case list() | tuple():
            return ", ".join(words_of(entry, name) for entry in value)
        case _:
            return _record(value)


def _number(value: float, name: str) -> str:
    if name.endswith("_bytes"):
        return amount(int(value))
    if name == "clock_offset_seconds":
        return clock(value)
    if name.endswith("_seconds"):
        return duration(value) if value >= 60 else f"{value:g} s"
    if name.endswith(("_at", "mtime", "_changed")):
        return _moment(value)
    return f"{value:g} °C" if name == "temperature_c" else str(value)


def _moment(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s since 1970"


def _record(record: object) -> str:
    """A record on one line: what it is called, then what is to be said of it."""
    match record:
        case ServiceState() | KubernetesService():
            return _service(record)
        case MountSpace():
            return _space(record)
        case Reach():
            reached = {True: "reached", False: "not reached", None: "not known"}[record.reached]
            return f"{record.name}: {reached}{': ' + record.reason if record.reason else ''}"
        case DkmsState():
            name = f"{record.name} " if record.name else ""
            return f"{name}{record.version} for {record.kernel or 'any kernel'}: {record.state}"
        case CdiSpec():
            return _cdi_spec(record)
        case Template():
            return f"{record.path}: {record.state}{': ' + '; '.join(record.why) if record.why else ''}"
        case ConfigWarning():
            place = record.path if record.line is None else f"{record.path}:{record.line}"
            return f"{place}: {record.text}"
        case PciDevice():
            return ", ".join(p for p in (record.name or record.pci_id, record.kind, record.bound_driver) if p)
        case VgpuLicense():
            return record.status + (", restricted" if record.restricted else "")
        case MigDevice():
            return " ".join(p for p in (record.profile, record.uuid) if p)
    return _any_record(record)


def _service(state: ServiceState | KubernetesService) -> str:
    if isinstance(state, ServiceState) and state.loaded is False:
        return f"{state.name} is not installed"
    active = state.active or "not known"
    words = [f"{active} ({state.sub})" if state.sub and state.sub != active else active]
    words += [state.enabled] if state.enabled else []
    words += [f"result {state.result}"] if state.result and state.result != "success" else []
    restarts = state.restarts if isinstance(state, KubernetesService) else None
    words += [count(restarts, "restart")] if restarts else []
    return f"{state.name}: {', '.join(words)}"


def _space(space: MountSpace) -> str:
    room = f"{amount(space.free_bytes)} free of {amount(space.total_bytes)}"
    holds = f" ({', '.join(space.holds)})" if space.holds else ""
    return f"{space.path}: {room}{', read-only' if space.read_only else ''}{holds}"


def _cdi_spec(spec: CdiSpec) -> str:
    if spec.error:
        return f"{spec.path}: {spec.error}"
    words = [spec.kind or "kind not known", count(len(spec.devices), "device")]
    words += [f"driver {spec.driver_version}"] if spec.driver_version else []
    words += [f"{count(len(spec.missing), 'path')} missing"] if spec.missing else []
    return f"{spec.path}: {', '.join(words)}"


def _any_record(record: object) -> str:
    if not is_dataclass(record) or isinstance(record, type):
        return str(record)
    names = [f.name for f in fields(record)]
    said = [(n, getattr(record, n)) for n in names if telling(n, getattr(record, n))]
    words = [
        words_of(entry, n) if at == 0 else f"{label(record, n)} {words_of(entry, n)}"
        for at, (n, entry) in enumerate(said)
    ]
    return ", ".join(words)
