"""Files of a simulated host's system, generated from its description: /etc, /proc, /sys, driver and toolkit.

All text is our own, in the form that the real files have (`hosts.md §1` to `§3`, `§6`).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from gpuwizard.fleet.hardware import SimulatedGpu, place
from gpuwizard.fleet.model import HostSpec

__all__ = ["Entry", "library_folder", "machine_id", "system_files"]

_OS_RELEASE = {
    "ubuntu-22.04": ("ubuntu", "debian", "22.04", "Ubuntu 22.04.5 LTS"),
    "ubuntu-24.04": ("ubuntu", "debian", "24.04", "Ubuntu 24.04.3 LTS"),
    "ubuntu-26.04": ("ubuntu", "debian", "26.04", "Ubuntu 26.04 LTS"),
    "debian-12": ("debian", "", "12", "Debian GNU/Linux 12 (bookworm)"),
    "debian-13": ("debian", "", "13", "Debian GNU/Linux 13 (trixie)"),
    "rocky-9": ("rocky", "rhel centos fedora", "9.6", "Rocky Linux 9.6 (Blue Onyx)"),
    "dgx-os-7": ("ubuntu", "debian", "24.04", "Ubuntu 24.04.3 LTS"),
    "unknown": ("homelinux", "", "1", "Homelinux 1"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the tree: its bytes and mode, or the target of a symlink."""

    data: bytes = b""
    mode: int = 0o644
    link: str | None = None

    @classmethod
    def text(cls, text: str, mode: int = 0o644) -> "Entry":
        """A file with that text."""
        return cls(text.encode(), mode)

    @classmethod
    def to(cls, target: str) -> "Entry":
        """A symlink."""
        return cls(link=target)


def machine_id(host: str, what: str = "machine") -> str:
    """32 hexadecimal digits that belong to a host."""
    return hashlib.sha256(f"{host} {what}".encode()).hexdigest()[:32]


def library_folder(spec: HostSpec) -> str:
    """Where the distribution keeps shared libraries."""
    return "/usr/lib64" if spec.distro.startswith("rocky") else f"/usr/lib/{spec.arch}-linux-gnu"


def system_files(spec: HostSpec) -> dict[str, Entry]:
    """Every generated file outside of Kubernetes and containerd, by absolute path."""
    gpus = place(spec.name, spec.gpus)
    files = dict(_etc(spec))
    files |= dict(_proc(spec))
    files |= dict(_pci(spec, gpus))
    files |= dict(_driver(spec, gpus))
    files |= dict(_toolkit(spec, gpus))
    return files


def _etc(spec: HostSpec) -> Iterator[tuple[str, Entry]]:
    system, like, version, pretty = _OS_RELEASE[spec.distro]
    quoted = f'PRETTY_NAME="{pretty}"\nNAME="{pretty.split()[0]}"\nVERSION_ID="{version}"\nID={system}\n'
    yield "/usr/lib/os-release", Entry.text(quoted + (f'ID_LIKE="{like}"\n' if like else ""))
    yield "/etc/os-release", Entry.to("../usr/lib/os-release")
    yield "/etc/hostname", Entry.text(f"{spec.name}\n")
    yield "/etc/machine-id", Entry.text(f"{machine_id(spec.name)}\n", 0o444)
    users = "root:x:0:0:root:/root:/bin/bash\n"
    if spec.login != "root":
        users += f"{spec.login}:x:1000:1000::/home/{spec.login}:/bin/bash\n"
    yield "/etc/passwd", Entry.text(users)
    yield "/var/run", Entry.to("../run")
    yield "/lib", Entry.to("usr/lib")
    if spec.distro.startswith("dgx"):
        yield (
            "/etc/dgx-release",
            Entry.text(
                'DGX_NAME="DGX Spark"\nDGX_PRETTY_NAME="NVIDIA DGX Spark"\nDGX_SWBUILD_DATE="2025-09-10-13-50-03"\n'
                'DGX_SWBUILD_VERSION="7.2.3"\nDGX_COMMIT_ID="833b4a7"\nDGX_PLATFORM="DGX Server for KVM"\n'
                f'DGX_SERIAL_NUMBER="{int(machine_id(spec.name, "serial")[:10], 16)}"\n'
                '\nDGX_OTA_VERSION="7.3.1"\nDGX_OTA_DATE="Thu Nov  6 09:12:44 UTC 2025"\n'
            ),
        )


def _proc(spec: HostSpec) -> Iterator[tuple[str, Entry]]:
    kib = spec.memory_gib * 1024 * 1024
    boot = machine_id(spec.name, "boot")
    yield "/proc/version", Entry.text(f"Linux version {spec.kernel} (buildd@simulated) #1 SMP PREEMPT_DYNAMIC\n")
    yield (
        "/proc/meminfo",
        Entry.text(
            f"MemTotal:       {kib:>9} kB\nMemFree:        {kib // 2:>9} kB\nMemAvailable:   {kib * 7 // 10:>9} kB\n"
        ),
    )
    yield "/proc/uptime", Entry.text("864000.25 3456000.00\n")
    yield "/proc/sys/kernel/osrelease", Entry.text(f"{spec.kernel}\n")
    yield "/proc/sys/kernel/hostname", Entry.text(f"{spec.name}\n")
    uuid = f"{boot[:8]}-{boot[8:12]}-{boot[12:16]}-{boot[16:20]}-{boot[20:]}\n"
    yield "/proc/sys/kernel/random/boot_id", Entry.text(uuid)
    mounts = "/dev/nvme0n1p2 / ext4 rw,relatime 0 0\nproc /proc proc rw 0 0\nsysfs /sys sysfs rw 0 0\n"
    yield "/proc/self/mounts", Entry.text(mounts)
    yield "/proc/mounts", Entry.to("self/mounts")
    modules = "overlay 212992 24 - Live 0x0000000000000000\nbr_netfilter 32768 0 - Live 0x0000000000000000\n"
    if spec.driver is not None and spec.driver.loaded:
        modules += "nvidia_uvm 4096000 4 - Live 0x0000000000000000\nnvidia 11493376 38 - Live 0x0000000000000000\n"
        yield "/sys/module/nvidia_uvm/refcnt", Entry.text("4\n", 0o444)
    if spec.nouveau:
        modules += "nouveau 3096576 1 - Live 0x0000000000000000\n"
    yield "/proc/modules", Entry.text(modules)
    dependencies = "kernel/fs/overlayfs/overlay.ko:\n"
    if spec.driver is not None and spec.driver.on_disk:
        dependencies += "updates/dkms/nvidia.ko.zst:\nupdates/dkms/nvidia-uvm.ko.zst: updates/dkms/nvidia.ko.zst\n"
    yield f"/usr/lib/modules/{spec.kernel}/modules.dep", Entry.text(dependencies)
    yield f"/boot/vmlinuz-{spec.kernel}", Entry.text("simulated\n")
    yield f"/usr/lib/modules/{spec.kernel}/build/Makefile", Entry.text("# simulated\n")
    yield "/sys/firmware/efi/fw_platform_size", Entry.text("64\n")
    variable = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    yield variable, Entry(b"\x06\0\0\0\0")
    yield "/sys/fs/cgroup/cgroup.controllers", Entry.text("cpuset cpu io memory hugetlb pids rdma misc\n")


def _function(address: str, values: dict[str, str], driver: str | None) -> Iterator[tuple[str, Entry]]:
    folder = f"/sys/bus/pci/devices/{address}"
    for name, value in values.items():
        yield f"{folder}/{name}", Entry.text(f"{value}\n", 0o444)
    if driver is not None:
        yield f"{folder}/driver", Entry.to(f"../../../bus/pci/drivers/{driver}")
        yield f"/sys/bus/pci/drivers/{driver}/new_id", Entry(mode=0o200)


def _pci(spec: HostSpec, gpus: tuple[SimulatedGpu, ...]) -> Iterator[tuple[str, Entry]]:
    network = {"vendor": "0x8086", "device": "0x1593", "class": "0x020000", "numa_node": "-1"}
    yield from _function("0000:00:1f.6", network, "ice")
    holder: str | None = "nouveau" if spec.nouveau else None
    if spec.driver is not None and spec.driver.loaded:
        holder = "nvidia"
    for gpu in gpus:
        model = gpu.model
        values = {
            "vendor": "0x10de",
            "device": f"0x{model.device:04x}",
            "class": f"0x{model.pci_class:06x}",
            "subsystem_vendor": "0x10de",
            "subsystem_device": f"0x{model.subsystem:04x}",
            "numa_node": "-1" if model.domain else "0",
        }
        yield from _function(gpu.address, values, holder)
        if model.audio is not None:
            sound = {"vendor": "0x10de", "device": f"0x{model.audio:04x}", "class": "0x040300", "numa_node": "0"}
            yield from _function(gpu.address[:-1] + "1", sound, "snd_hda_intel")


def _driver(spec: HostSpec, gpus: tuple[SimulatedGpu, ...]) -> Iterator[tuple[str, Entry]]:
    if spec.nouveau:
        yield "/sys/module/nouveau/refcnt", Entry.text("1\n")
    driver = spec.driver
    if driver is None:
        return
    if driver.loaded:
        kind = f"Open Kernel Module for {spec.arch}" if driver.flavour == "open" else f"{spec.arch} Kernel Module"
        yield (
            "/proc/driver/nvidia/version",
            Entry.text(
                f"NVRM version: NVIDIA UNIX {kind}  {driver.loaded}  Release Build  (dvs-builder@simulated)\n"
                "GCC version:  gcc version 13.3.0\n"
            ),
        )
        yield "/sys/module/nvidia/version", Entry.text(f"{driver.loaded}\n", 0o444)
        for node in ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", *(f"nvidia{gpu.index}" for gpu in gpus)):
            yield f"/dev/{node}", Entry(mode=0o666)
        for gpu in gpus:
            yield (
                f"/proc/driver/nvidia/gpus/{gpu.address}/information",
                Entry.text(
                    f"Model: \t\t {gpu.model.name}\nIRQ:   \t\t {64 + gpu.index}\nGPU UUID: \t {gpu.uuid}\n"
                    f"Bus Type: \t PCIe\nBus Location: \t {gpu.address}\nDevice Minor: \t {gpu.index}\n"
                    "GPU Excluded:\t No\n",
                    0o444,
                ),
            )
    if driver.on_disk:
        yield f"/usr/lib/modules/{spec.kernel}/updates/dkms/nvidia.ko.zst", Entry.text("simulated\n")
    if driver.userspace:
        folder = library_folder(spec)
        for library in ("libnvidia-ml", "libcuda"):
            yield f"{folder}/{library}.so.{driver.userspace}", Entry.text("simulated\n")
            yield f"{folder}/{library}.so.1", Entry.to(f"{library}.so.{driver.userspace}")


def _toolkit(spec: HostSpec, gpus: tuple[SimulatedGpu, ...]) -> Iterator[tuple[str, Entry]]:
    if spec.toolkit is None:
        return
    program = "#!/bin/sh\n# The container runtime of a simulated host: looked up, never run.\nexit 0\n"
    for name in ("nvidia-container-runtime", "nvidia-container-runtime-hook"):
        yield f"/usr/bin/{name}", Entry.text(program, 0o755)
    yield (
        "/etc/nvidia-container-runtime/config.toml",
        Entry.text(
            "disable-require = false\n\n[nvidia-container-cli]\nload-kmods = true\n\n[nvidia-container-runtime]\n"
            'log-level = "info"\nmode = "auto"\nruntimes = ["runc", "crun"]\n\n[nvidia-container-runtime.modes.cdi]\n'
            'default-kind = "nvidia.com/gpu"\n'
        ),
    )
    if spec.driver is not None and spec.driver.loaded and gpus:
        devices = "".join(f'- name: "{n}"\n' for n in [*(str(g.index) for g in gpus), "all"])
        yield "/run/cdi/nvidia.yaml", Entry.text(f"cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n{devices}")
