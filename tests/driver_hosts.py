"""Probes of hosts whose driver is in one state or another: the captured host with other sections."""

from collections.abc import Mapping

from gpuwizard.facts.model import Probe
from gpuwizard.facts.parse import parse_probe
from tests.captured import CAPTURE, edit, without

KERNEL = "6.8.0-85-generic"
NEWER = "6.8.0-90-generic"
NVRM = {
    "open": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U22)  Tue Mar  3",
    "proprietary": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Jun 23 08:38:17 UTC 2026",
}
NOT_FOUND = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n"
)


def host(raw: bytes = CAPTURE, **sections: str | tuple[str, int]) -> bytes:
    """`raw` with other sections; an underscore in a name stands for a hyphen, two for a colon."""
    for name, given in sections.items():
        text, status = given if isinstance(given, tuple) else (given, 0)
        raw = edit(name.replace("__", ":").replace("_", "-"), text, status, probe=raw)
    return raw


def kernels(*releases: str, headers: bool = True, image: bool = True) -> str:
    """The section ``kernels``."""
    return "".join(f"{release} headers={headers:d} image={image:d}\n" for release in releases)


def on_disk(modules: Mapping[str, str], *, terms: str = "Dual MIT/GPL", signer: str | None = "a key") -> dict[str, str]:
    """Sections for modules by kernel; a version that is empty stands for a file that modinfo was not asked about."""
    lines, info = "", ""
    for kernel, version in modules.items():
        path = "updates/dkms/nvidia.ko.zst"
        lines += f"/lib/modules/{kernel}/modules.dep:{path}: kernel/drivers/video/backlight.ko.zst\n"
        if version:
            info += (
                f"filename:       /lib/modules/{kernel}/{path}\nversion:        {version}\nlicense:        {terms}\n"
            )
            info += f"sig_id:         PKCS#7\nsigner:         {signer}\n" if signer else ""
    return {"driver_files": lines, "modinfo": info}


def unloaded(raw: bytes = CAPTURE) -> bytes:
    """The module is on disk and not in the kernel; nobody holds the GPU."""
    raw = without("pci-drivers", "nvrm-version", "module-version", probe=raw)
    raw = without(*(name for name in ("smi-more", "smi-seconds") if f"@@ {name} ".encode() in raw), probe=raw)
    raw = edit("pci", "0000:00:06.0 0x2335 0x030200 0\n", probe=raw)
    return host(raw, driver_modules="ext4\n", device_nodes="", smi_core=(NOT_FOUND, 9))


def no_module(raw: bytes = CAPTURE) -> bytes:
    """Nor is it on disk."""
    return host(unloaded(raw), driver_files=("", 1), modinfo="")


def bare(raw: bytes = CAPTURE) -> bytes:
    """Nothing of a driver at all."""
    raw = without("smi-core", "smi-started", probe=no_module(raw))
    return host(raw, nvml_files="", smi_missing="")


def loaded(version: str, flavour: str = "open", raw: bytes = CAPTURE) -> bytes:
    """All of the driver is of that version and works."""
    terms = "Dual MIT/GPL" if flavour == "open" else "NVIDIA"
    raw = host(raw, nvrm_version=NVRM[flavour].format(version), module_version=f"{version}\n")
    raw = host(raw, nvml_files=f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{version}\n")
    smi = parse_smi(raw).replace("580.159.04", version)
    return host(raw, smi_core=smi, **on_disk({KERNEL: version}, terms=terms))


def parse_smi(raw: bytes) -> str:
    """The text of the captured query."""
    start = raw.index(b"@@ smi-core ")
    head, _, rest = raw[start:].partition(b"\n")
    return rest[: int(head.split()[-1])].decode()


def gpu(raw: bytes, device: str, *, driver: str | None = "nvidia", pci_class: str = "0x030200") -> bytes:
    """The one GPU is another product, and nvidia-smi does not list it."""
    bound = f" driver={driver}" if driver else ""
    raw = edit("pci", f"0000:00:06.0 0x{device} {pci_class} 0{bound}\n", probe=raw)
    return without("pci-drivers", probe=raw) if b"@@ pci-drivers " in raw else raw


def log(*lines: tuple[float, str] | str, uptime: float = 1000.0) -> str:
    """The section ``kernel-log``: lines with their seconds since boot."""
    shown = (line if isinstance(line, tuple) else (10.0, line) for line in lines)
    return f"{uptime}\n" + "".join(f"1 {at} {text}\n" for at, text in shown)


def probe(raw: bytes = CAPTURE, **sections: str | tuple[str, int]) -> Probe:
    """The facts of it."""
    return parse_probe(host(raw, **sections))


_UNIT = "Id={}\nLoadState={}\nActiveState={}\nSubState={}\nUnitFileState=enabled\nResult={}\n"


def units(name: str, active: str, load: str = "loaded", sub: str = "dead", result: str = "success") -> str:
    return _UNIT.format(name, load, active, sub, result)


def with_units(*blocks: str, raw: bytes = CAPTURE) -> bytes:
    kept = raw[raw.index(b"@@ units ") :].partition(b"\n")[2]
    length = int(raw[raw.index(b"@@ units ") :].partition(b"\n")[0].split()[-1])
    return edit("units", "\n\n".join([kept[:length].decode(), *blocks]), probe=raw)
