"""nvidia-smi, nvidia-ctk and modinfo of a simulated host (`hosts.md §3.3`, `§4`)."""

import math
import zlib
from typing import TYPE_CHECKING

from gpuwizard.fleet.hardware import SimulatedGpu
from gpuwizard.fleet.model import Driver
from gpuwizard.fleet.questions import Answer, Question

if TYPE_CHECKING:
    from gpuwizard.fleet.host import SimulatedHost

__all__ = ["modinfo", "nvidia_ctk", "nvidia_smi"]

_UNITS = {
    "memory.total": "MiB", "memory.used": "MiB", "memory.free": "MiB", "memory.reserved": "MiB",
    "utilization.gpu": "%", "utilization.memory": "%", "fan.speed": "%", "power.draw": "W", "power.limit": "W",
    "power.draw.instant": "W", "power.max_limit": "W", "enforced.power.limit": "W", "clocks.sm": "MHz",
    "clocks.mem": "MHz", "clocks.max.sm": "MHz", "clocks.max.mem": "MHz", "clocks.current.sm": "MHz",
    "clocks.current.memory": "MHz",
}  # fmt: skip
_NONE = "[N/A]"
_NAMES = {
    "clocks_throttle_reasons.active": "clocks_event_reasons.active", "clocks.sm": "clocks.current.sm",
    "clocks.mem": "clocks.current.memory", "gpu_uuid": "uuid", "gpu_name": "name", "gpu_bus_id": "pci.bus_id",
}  # fmt: skip
"""Field → the name that the header shows for it (seen with driver 580)."""
_SINCE = {
    "compute_cap": 535, "memory.reserved": 535, "addressing_mode": 535, "fabric.state": 535, "fabric.status": 535,
    "power.draw.instant": 535, "clocks_event_reasons.active": 535, "gsp.mode.current": 535, "c2c.mode": 550,
    "reset_status.reset_required": 535, "reset_status.drain_and_reset_recommended": 535,
    "remapped_rows.pending": 580, "remapped_rows.failure": 580, "gpu_recovery_action": 580,
}  # fmt: skip
"""Field → the first driver branch that is known to have it (`hosts.md §4.4`, Debian's nvidia-smi of 470 to 550)."""


async def nvidia_smi(host: "SimulatedHost", question: Question) -> Answer:
    """Queries in CSV, ``-L``, ``--version``, ``-h``; what it says without a working driver."""
    words = question.arguments
    driver = host.spec.driver
    if driver is None:
        return Answer(err="nvidia-smi: not found\n", status=127)
    if words[:1] in (("-h",), ("--help",)):
        return Answer(
            f"NVIDIA System Management Interface -- v{driver.userspace}\n\nNVSMI provides monitoring information\n"
        )
    if "nvidia-smi-hangs" in host.spec.faults:
        await host.clock.sleep(1e6)
    problem = _problem(driver)
    if problem is not None:
        return problem
    options = dict(word.partition("=")[::2] for word in words if word.startswith("--"))
    formats = options.get("--format", "").split(",")
    if "--query-gpu" in options:
        return _query(host, options["--query-gpu"].split(","), formats, driver)
    if "--query-remapped-rows" in options:
        return _query(host, options["--query-remapped-rows"].split(","), formats, None)
    if "--query-compute-apps" in options:
        header = ", ".join(options["--query-compute-apps"].split(","))
        return Answer("" if "noheader" in formats else f"{header}\n")
    if words[:1] in (("-L",), ("--list-gpus",)):
        return Answer("".join(f"GPU {g.index}: {g.model.name} (UUID: {g.uuid})\n" for g in host.gpus))
    if words[:1] == ("--version",):
        short = ".".join((driver.loaded or "").split(".")[:2])
        return Answer(
            f"NVIDIA-SMI version  : {driver.userspace}\nNVML version        : {short}\n"
            f"DRIVER version      : {driver.loaded}\nCUDA Version        : 13.0\n"
        )
    if not words:
        rows = "".join(f"|   {g.index}  {g.model.name:<28} {g.bus_id} |\n" for g in host.gpus)
        return Answer(
            f"| NVIDIA-SMI {driver.userspace}   Driver Version: {driver.loaded}   CUDA Version: 13.0 |\n{rows}"
        )
    return Answer("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n", status=1)


def _problem(driver: Driver) -> Answer | None:
    if driver.loaded is None:
        return Answer(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
            "Make sure that the latest NVIDIA driver is installed and running.\n\n",
            status=9,
        )
    if driver.loaded != driver.userspace:
        library = ".".join((driver.userspace or "").split(".")[:2])
        return Answer(
            f"Failed to initialize NVML: Driver/library version mismatch\nNVML library version: {library}\n", status=18
        )
    return None


def _query(host: "SimulatedHost", fields: list[str], formats: list[str], driver: Driver | None) -> Answer:
    """Rows for all GPUs. With a `driver` the fields that its branch does not have are refused."""
    if not host.gpus:
        return Answer("No devices were found\n", status=6)
    rows = []
    if "noheader" not in formats:
        rows.append(", ".join(f"{_NAMES.get(f, f)} [{_UNITS[f]}]" if f in _UNITS else _NAMES.get(f, f) for f in fields))
    branch = 1000 if driver is None else int((driver.loaded or "0").partition(".")[0])
    for gpu in host.gpus:
        values = _values(gpu, host)
        unknown = next((f for f in fields if f not in values or branch < _SINCE.get(f, 0)), None)
        if unknown is not None:
            return Answer(f'Field "{unknown}" is not a valid field to query.\n\n', status=2)
        cells = [values[f] for f in fields]
        if "nounits" not in formats:
            cells = [
                f"{c} {_UNITS[f]}" if f in _UNITS and c != _NONE else c for f, c in zip(fields, cells, strict=True)
            ]
        rows.append(", ".join(cells))
    return Answer("\n".join(rows) + "\n")


def _values(gpu: SimulatedGpu, host: "SimulatedHost") -> dict[str, str]:
    model = gpu.model
    version = host.spec.driver.loaded if host.spec.driver is not None else None
    load = _load(gpu, host.clock.monotonic())
    total, used = model.memory_mib, 0
    if total is not None:
        used = int((total - model.reserved_mib) * load * 0.6)
    ceiling = model.power_limit or 120.0
    sm = int(model.max_sm * (0.2 + 0.78 * load)) if load > 0.02 else int(model.max_sm * 0.17)

    def number(value: float | None, form: str = "{:.0f}") -> str:
        return _NONE if value is None else form.format(value)

    limit = number(model.power_limit, "{:.2f}")
    draw = f"{model.idle_power + (ceiling * 0.92 - model.idle_power) * load:.2f}"
    values = {
        "index": str(gpu.index), "uuid": gpu.uuid, "name": model.name, "count": str(len(host.gpus)),
        "pci.bus_id": gpu.bus_id, "pci.device_id": f"0x{model.device:04X}10DE",
        "pci.sub_device_id": f"0x{model.subsystem:04X}10DE", "serial": gpu.serial if model.serial else _NONE,
        "driver_version": version or "", "vbios_version": "96.00.A5.00.03", "compute_cap": model.compute,
        "memory.total": number(total), "memory.used": number(used if total is not None else None),
        "memory.free": number(None if total is None else total - model.reserved_mib - used),
        "memory.reserved": number(None if total is None else model.reserved_mib),
        "utilization.gpu": f"{load * 100:.0f}", "utilization.memory": number(load * 45 if total is not None else 0),
        "temperature.gpu": f"{31 + 38 * load:.0f}",
        "temperature.memory": f"{35 + 44 * load:.0f}" if model.memory_temperature else "N/A",
        "power.draw": draw, "power.draw.instant": draw, "power.limit": limit, "enforced.power.limit": limit,
        "power.max_limit": limit, "clocks.max.sm": str(model.max_sm),
        "clocks.max.mem": number(model.max_memory_clock), "pstate": "P0" if load > 0.02 else "P8",
        "clocks_throttle_reasons.active": "0x0000000000000000" if load > 0.02 else "0x0000000000000001",
        "persistence_mode": "Enabled", "compute_mode": "Default",
        "mig.mode.current": "Disabled" if model.mig else _NONE, "mig.mode.pending": "Disabled" if model.mig else _NONE,
        "ecc.mode.current": "Enabled" if model.ecc else _NONE,
        "ecc.errors.uncorrected.volatile.total": "0" if model.ecc else _NONE,
        "ecc.errors.uncorrected.aggregate.total": "0" if model.ecc else _NONE,
        "remapped_rows.pending": "No" if model.ecc else _NONE, "remapped_rows.failure": "No" if model.ecc else _NONE,
        "retired_pages.pending": _NONE, "addressing_mode": model.addressing, "fabric.state": "N/A",
        "fabric.status": "N/A", "fan.speed": "32" if model.fan else _NONE, "pcie.link.gen.max": "5",
        "pcie.link.gen.current": "5", "pcie.link.width.current": "16", "pcie.link.width.max": "16",
        "gsp.mode.current": "Enabled", "c2c.mode": "Disabled", "gpu_recovery_action": "None",
        "reset_status.reset_required": "No", "reset_status.drain_and_reset_recommended": "No",
    }  # fmt: skip
    values |= {name: values[known] for name, known in _NAMES.items() if known in values}
    values["clocks.sm"] = values["clocks.current.sm"] = str(sm)
    values["clocks.mem"] = values["clocks.current.memory"] = number(model.max_memory_clock)
    values["clocks_event_reasons.active"] = values["clocks_throttle_reasons.active"]
    return values


def _load(gpu: SimulatedGpu, moment: float) -> float:
    """Utilisation from 0 to 1 as it changes with the fleet's time: each GPU idles and works in a rhythm of its own."""
    seed = zlib.crc32(gpu.uuid.encode())
    period = 240 + seed % 300
    wave = math.sin(2 * math.pi * moment / period + seed % 7) + 0.35 * math.sin(2 * math.pi * moment / 37 + seed % 5)
    return min(max(wave * 0.75, 0.0), 1.0)


async def nvidia_ctk(host: "SimulatedHost", question: Question) -> Answer:
    """``--version`` and ``cdi list``."""
    if question.arguments[:1] in (("--version",), ("-v",)):
        return Answer(f"NVIDIA Container Toolkit CLI version {host.spec.toolkit}\ncommit: 0000000\n")
    if question.arguments[:2] == ("cdi", "list"):
        names = [*(str(g.index) for g in host.gpus), "all"] if host.tree.exists("/run/cdi/nvidia.yaml") else []
        return Answer("".join(f"nvidia.com/gpu={n}\n" for n in names), f"Found {len(names)} CDI devices\n")
    return Answer(err="nvidia-ctk: this is not simulated\n", status=1)


async def modinfo(host: "SimulatedHost", question: Question) -> Answer:
    """``[-k KERNEL] [-F version|license|filename] nvidia`` or the module's path, from the modules in the tree."""
    words = list(question.arguments)
    kernel, wanted = host.spec.kernel, ""
    while words and words[0].startswith("-"):
        option = words.pop(0)
        value = words.pop(0) if words else ""
        if option == "-k":
            kernel = value
        elif option in ("-F", "--field"):
            wanted = value
    name = words[0] if words else ""
    driver = host.spec.driver
    path = f"/usr/lib/modules/{kernel}/updates/dkms/{name}.ko.zst"
    if "/" in name:
        own = host.tree.own_path(name)
        path = f"/usr{own}" if own.startswith("/lib/") else own
    if driver is None or not host.tree.exists(path):
        return Answer(err=f"modinfo: ERROR: Module {name} not found.\n", status=1)
    fields = {
        "filename": path,
        "version": driver.on_disk or "",
        "license": "Dual MIT/GPL" if driver.flavour == "open" else "NVIDIA",
    }
    if wanted:
        return Answer(f"{fields[wanted]}\n" if wanted in fields else "")
    return Answer("".join(f"{key}: {value}\n" for key, value in fields.items()))
