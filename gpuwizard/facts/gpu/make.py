"""One GPU out of what the bus, the driver's procfs and nvidia-smi say of it."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from gpuwizard.facts.gpu.names import generation_of_capability, product
from gpuwizard.facts.gpu.nvidia_smi import cell, denied, fault, mebibytes, row_faults, throttle_reasons
from gpuwizard.facts.gpu.pci import PciFunction, bus_address
from gpuwizard.facts.gpu.vgpu import Virtual
from gpuwizard.facts.model import Gpu, MigDevice
from gpuwizard.facts.text import number

__all__ = ["gpu_from_bus", "gpu_from_smi"]

_SHARED_BY_NAME = re.compile(r"\bGB10$|\(nvgpu\)|\b(?:Orin|Thor|Xavier|N1X?)\b")
_YES_NO: Mapping[str | None, bool] = {"Yes": True, "No": False}
_ON_OFF: Mapping[str | None, bool] = {"Enabled": True, "Disabled": False}
_GRAVITY = ("gpu is lost", "gpu requires reset")


def gpu_from_smi(
    row: Mapping[str, str],
    function: PciFunction | None,
    information: Mapping[str, str],
    devices: Sequence[MigDevice] | None,
    virtual: Virtual,
) -> Gpu:
    """A GPU that nvidia-smi lists. `row` has its cells by column, `function` its place on the bus if that is known;
    `devices` are its MIG devices, None where they were not listed."""
    pci_id = f"10de:{function.device}" if function and function.device else _id_of(row.get("pci.device_id"))
    known = product(pci_id[5:], function.subsystem if function else None) if pci_id else None
    name = cell(row.get("name")) or information.get("Model") or (known.name if known else None)
    memory = mebibytes(row.get("memory.total"))
    shared = (known is not None and known.shares_memory) or _SHARED_BY_NAME.search(name or "") is not None
    capability = cell(row.get("compute_cap"))
    faults = row_faults(row)
    return Gpu(
        pci=function.address if function else bus_address(row.get("pci.bus_id")),
        pci_id=pci_id,
        name=name,
        uuid=cell(row.get("uuid")) or _uuid(information),
        index=number(row.get("index")),
        memory_bytes=None if shared else memory,
        unified_memory=True if shared else False if memory is not None or known is not None else None,
        compute_capability=capability,
        mig=_mode(row, "mig.mode.current"),
        bound_driver=function.driver if function else None,
        seen_by=("pci", "nvidia-smi") if function else ("nvidia-smi",),
        mig_devices=tuple(device.profile for device in devices or ()),
        mig_pending=_mode(row, "mig.mode.pending"),
        mig_instances=None if devices is None else tuple(devices),
        fault=min(faults.values(), key=_gravity) if faults else None,
        excluded=_YES_NO.get(information.get("GPU Excluded")),
        persistence=_ON_OFF.get(_mode(row, "persistence_mode")),
        recovery_action=_recovery(row),
        remap_pending=_YES_NO.get(cell(row.get("remapped_rows.pending"))),
        remap_failed=_YES_NO.get(cell(row.get("remapped_rows.failure"))),
        retired_pending=_YES_NO.get(cell(row.get("retired_pages.pending"))),
        ecc_uncorrected=number(cell(row.get("ecc.errors.uncorrected.volatile.total"))),
        compute_mode=cell(row.get("compute_mode")),
        addressing_mode=cell(row.get("addressing_mode")),
        fabric_state=cell(row.get("fabric.state")),
        fabric_status=cell(row.get("fabric.status")) or fault(row.get("fabric.status")),
        virtualization=virtual.mode or _host_side(function),
        vgpu_license=virtual.license,
        temperature_c=number(cell(row.get("temperature.gpu"))),
        throttle=throttle_reasons(row.get("clocks_throttle_reasons.active")) or (),
        generation=(known.generation if known else None) or generation_of_capability(capability),
        subsystem_id=function.subsystem if function else None,
        numa_node=function.numa if function else None,
        ecc=_mode(row, "ecc.mode.current"),
        fault_fields=tuple(faults),
        denied=tuple(column for column, text in row.items() if denied(text)),
        virtual_functions=function.virtual_functions if function else None,
    )


def gpu_from_bus(function: PciFunction, information: Mapping[str, str]) -> Gpu:
    """A GPU that nvidia-smi does not list: named by the driver's procfs, else by the table of names."""
    known = function.product
    name = information.get("Model") or (known.name if known else None)
    return Gpu(
        pci=function.address,
        pci_id=f"10de:{function.device}" if function.device else None,
        name=name or (f"NVIDIA {known.chip}" if known else None),
        uuid=_uuid(information),
        unified_memory=known.shares_memory if known else None,
        bound_driver=function.driver,
        seen_by=("pci",),
        fault="fallen off the bus" if function.gone else None,
        excluded=_YES_NO.get(information.get("GPU Excluded")),
        virtualization=_host_side(function),
        generation=known.generation if known else None,
        subsystem_id=function.subsystem,
        numa_node=function.numa,
        fault_fields=("pci",) if function.gone else (),
        virtual_functions=function.virtual_functions,
    )


def _gravity(words: str) -> int:
    return _GRAVITY.index(words.lower()) if words.lower() in _GRAVITY else len(_GRAVITY)


def _host_side(function: PciFunction | None) -> Literal["host-vgpu"] | None:
    """A host that hands out virtual GPUs has virtual functions switched on, or a driver that offers types of them."""
    if function is not None and (function.virtual_functions or function.vgpu_types):
        return "host-vgpu"
    return None


def _mode(row: Mapping[str, str], column: str) -> str | None:
    """``Enabled`` or ``Disabled``; None for everything else."""
    said = cell(row.get(column))
    return said if said in _ON_OFF else None


def _recovery(row: Mapping[str, str]) -> str | None:
    """What the driver asks for; drivers 535 to 570 say it with two flags."""
    if "gpu_recovery_action" in row:
        return cell(row["gpu_recovery_action"])
    reset, drain = (
        _YES_NO.get(cell(row.get(f"reset_status.{name}"))) for name in ("reset_required", "drain_and_reset_recommended")
    )
    if reset or drain:
        return "Reset" if reset else "Drain and Reset"
    return "None" if reset is False and drain is False else None


def _uuid(information: Mapping[str, str]) -> str | None:
    """The UUID in procfs; a GPU that was never started shows question marks."""
    uuid = information.get("GPU UUID")
    return uuid if uuid is not None and "?" not in uuid else None


def _id_of(device_id: str | None) -> str | None:
    """``0x233510DE`` → ``10de:2335``."""
    text = (cell(device_id) or "").removeprefix("0x").lower()
    match = re.fullmatch(r"([0-9a-f]{4})10de", text)
    return f"10de:{match[1]}" if match else None
