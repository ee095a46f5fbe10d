"""Directory trees that stand for ``/sys/bus/pci``, ``/sys/module`` and ``/proc/driver``, with one H200 or without."""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["DRIVER_VERSION", "GPU_ADDRESS", "GPU_UUID", "build_hardware"]

DRIVER_VERSION = "580.159.04"
GPU_ADDRESS = "0000:83:00.0"
GPU_UUID = "GPU-5a3c1e70-94d2-4b6f-8e11-0d3f7a2b9c64"

_DEVICES: dict[str, dict[str, str]] = {
    # a host bridge and a network card: a probe must pass over them
    "0000:00:00.0": {"vendor": "0x8086", "device": "0x09a2", "class": "0x060000", "numa_node": "0"},
    "0000:41:00.0": {"vendor": "0x15b3", "device": "0x101f", "class": "0x020000", "numa_node": "0"},
}
_GPU = {
    "vendor": "0x10de",
    "device": "0x2335",
    "class": "0x030200",
    "subsystem_vendor": "0x10de",
    "subsystem_device": "0x18be",
    "numa_node": "1",
    "revision": "0xa1",
}
_NVRM = f"""NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {DRIVER_VERSION}  Release Build  (lab@stand-in)
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)
"""
_INFORMATION = f"""Model: \t\t NVIDIA H200
IRQ:   \t\t 41
GPU UUID: \t {GPU_UUID}
Video BIOS: \t 96.00.a5.00.1a
Bus Type: \t PCIe
DMA Size: \t 52 bits
DMA Mask: \t 0xfffffffffffff
Bus Location: \t {GPU_ADDRESS}
Device Minor: \t 0
GPU Firmware: \t {DRIVER_VERSION}
GPU Excluded:\t No
"""


def build_hardware(folder: Path, *, gpu: bool) -> None:
    """Write the trees ``pci``, ``module`` and ``driver`` below `folder`.

    A unit of the host binds them over the real ones: systemd-nspawn cannot, it looks for sources of mounts below
    ``/proc`` and ``/sys`` inside the host.
    """
    for address, values in (_DEVICES | ({GPU_ADDRESS: _GPU} if gpu else {})).items():
        _write(folder / "pci" / "devices" / address, values)
    _write(folder / "module" / "overlay", {"refcnt": "0"})
    _write(folder / "module" / "br_netfilter", {"refcnt": "0"})
    _write(folder / "driver", {"rtc": "rtc_time\t: 00:00:00"})
    if gpu:
        _add_driver(folder)


def _add_driver(folder: Path) -> None:
    """The nvidia driver is loaded and holds the GPU."""
    for module in ("nvidia", "nvidia_uvm", "nvidia_modeset"):
        values = {"version": DRIVER_VERSION, "refcnt": "2", "initstate": "live", "taint": "OE"}
        _write(folder / "module" / module, values)
    drivers = folder / "pci" / "drivers" / "nvidia"
    drivers.mkdir(parents=True)
    (drivers / GPU_ADDRESS).symlink_to(f"../../devices/{GPU_ADDRESS}")
    (folder / "pci" / "devices" / GPU_ADDRESS / "driver").symlink_to("../../drivers/nvidia")
    nvidia = folder / "driver" / "nvidia"
    _write(nvidia, {"version": _NVRM.rstrip("\n"), "params": "ModifyDeviceFiles: 1\nDeviceFileMode: 438"})
    _write(nvidia / "gpus" / GPU_ADDRESS, {"information": _INFORMATION.rstrip("\n")})


def _write(folder: Path, values: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name).write_text(value + "\n")
        (folder / name).chmod(0o444)
