"""Rules about environments that are no plain host: containers, WSL, Jetson, DGX OS, Proxmox, Bottlerocket."""

from gpuwizard.facts.model import OsFacts, Probe
from gpuwizard.findings.rule import Rule, Verdict

__all__ = ["RULES"]


def _container(probe: Probe) -> Verdict | None:
    system = probe.facts.os
    if system.kind != "container":
        return None
    return Verdict((system.kind_why or "marks of a container", "no systemd and no OpenRC runs here"))


def _system_container(probe: Probe) -> Verdict | None:
    system = probe.facts.os
    if system.kind != "host" or not system.container or system.container == "wsl":
        return None
    return Verdict((f"/run/systemd/container: {system.container}",))


def _special(probe: Probe) -> Verdict | None:
    system = probe.facts.os
    match system.kind:
        case "wsl2":
            return Verdict(
                (system.kind_why or "the kernel is that of WSL2",),
                title="WSL2: the driver is that of Windows",
                remedy="Update the NVIDIA driver in Windows and install none here.",
            )
        case "jetson":
            l4t = (f"Jetson Linux {system.l4t}",) if system.l4t else ()
            return Verdict(
                (system.kind_why or "/etc/nv_tegra_release", *l4t),
                title="Jetson: driver and toolkit come with JetPack",
                remedy="Update them with JetPack. The GPU Operator does not support integrated GPUs: use the device "
                "plugin.",
            )
        case _:
            return _dgx(system)


def _dgx(system: OsFacts) -> Verdict | None:
    if system.dgx is None and system.dgx_name is None:
        return None
    version = f"DGX OS {system.dgx}" if system.dgx else "DGX OS"
    return Verdict(
        (version, *((system.dgx_name,) if system.dgx_name else ())),
        title="DGX OS: driver and toolkit are NVIDIA's and are never touched",
        remedy="Update them with NVIDIA's tools (`nvidia-release-upgrade`, DGX Dashboard) and never by a plain upgrade "
        "from other repositories; runtime and cluster are configured as anywhere.",
    )


def _proxmox(probe: Probe) -> Verdict | None:
    system = probe.facts.os
    if system.proxmox is None or system.kind != "host":
        return None
    return Verdict((f"pve-manager {system.proxmox}", f"kernel {probe.facts.kernel.release or 'unknown'}"))


def _bottlerocket(probe: Probe) -> Verdict | None:
    if probe.facts.os.kind != "bottlerocket":
        return None
    return Verdict((probe.facts.os.kind_why or "/.bottlerocket",))


def _wsl1(probe: Probe) -> Verdict | None:
    if probe.facts.os.kind != "wsl1":
        return None
    return Verdict((probe.facts.os.kind_why or "the kernel is that of WSL 1",))


RULES = (
    Rule(
        "GW-HOST-005",
        "warning",
        "this is a container and not a host",
        "The login ended in a container, so what was seen is the container's.",
        "Log in to the host itself.",
        _container,
        ("hosts.md §1.4",),
        effect="Driver, services and files of the host are out of sight; nothing found here holds for it.",
        detected="/.dockerenv, /run/.containerenv, a service account of Kubernetes or the control group of process 1, "
        "where neither systemd nor OpenRC runs.",
        sources=("containers/podman", "systemd-detect-virt(1)"),
    ),
    Rule(
        "GW-HOST-006",
        "info",
        "the vendor's system",
        "Driver and toolkit come with the system and are updated with it.",
        "Update them with the vendor's tools; runtime and cluster are configured as anywhere.",
        _special,
        ("hosts.md §1.3", "hosts.md §1.4", "hosts.md §1.2 #26", "hosts.md §5.1"),
        effect="A driver or toolkit from elsewhere breaks what the vendor tested together.",
        detected="/etc/dgx-release (the last DGX_OTA_VERSION counts), /etc/fastos-release, /etc/nv_tegra_release, "
        "/sys/devices/soc0/family, the kernel's name, /dev/dxg.",
        sources=(
            "NVIDIA/deepops playbooks/nvidia-software/nvidia-driver.yml",
            "rbonghi/jetson_stats jtop/core/jetson_variables.py",
            "NVIDIA/nvidia-container-toolkit deployments/systemd/nvidia-cdi-refresh.service",
            "NVIDIA/cloud-native-docs gpu-operator/platform-support.rst",
        ),
    ),
    Rule(
        "GW-HOST-010",
        "info",
        "a system container: the kernel and its driver are those of its host",
        "systemd runs here inside a container, so kernel modules can be neither installed nor loaded from here.",
        "Install the driver on the machine that runs this container, in the same version as the libraries here, and "
        "pass the /dev/nvidia* nodes in.",
        _system_container,
        ("hosts.md §1.4", "kubernetes.md §1.14 #20"),
        effect="A driver package installed here cannot load its module; a version other than the host's gives "
        "`Driver/library version mismatch`.",
        detected="/run/systemd/container.",
        messages=("failed to create symlinks under /dev/char",),
        sources=("systemd-detect-virt(1)", "NVIDIA/gpu-operator#430"),
    ),
    Rule(
        "GW-HOST-011",
        "info",
        "Proxmox VE: GPUs may belong to guests",
        "This is a hypervisor on Debian. A GPU bound to vfio-pci is passed to a virtual machine and is no fault.",
        "Run Kubernetes in a guest and check the guest; for containers (LXC) install the driver here, for virtual "
        "machines in them.",
        _proxmox,
        ("hosts.md §1.2 #22", "hosts.md §2.4"),
        effect="A driver installed here takes the GPUs away from virtual machines that are to get them.",
        detected="The package pve-manager.",
        sources=("pve.proxmox.com pveversion(1)",),
    ),
    Rule(
        "GW-HOST-012",
        "warning",
        "Bottlerocket: this is its admin container",
        "SSH ends in a container of Amazon Linux; the host itself is changed through its API alone.",
        "Use a *-nvidia variant of Bottlerocket, which brings driver, toolkit and device plugin. `sudo sheltie` shows "
        "the host, `apiclient` changes settings; gpuwizard only diagnoses here.",
        _bottlerocket,
        ("hosts.md §1.4", "hosts.md §1.2 #18", "hosts.md §5.2"),
        effect="Nothing that is written here reaches the host.",
        detected="/.bottlerocket, which is mounted into the admin container.",
        sources=("bottlerocket-os/bottlerocket README.md",),
    ),
    Rule(
        "GW-HOST-013",
        "error",
        "WSL 1 has no kernel of its own and no GPU",
        "WSL 1 translates system calls: there are neither kernel modules nor containers.",
        "Convert it in Windows: `wsl --set-version NAME 2`.",
        _wsl1,
        ("hosts.md §1.4",),
        effect="Neither a driver nor a container runtime works here.",
        detected="The kernel's name.",
        sources=("microsoft/WSL",),
    ),
)
