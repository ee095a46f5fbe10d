"""Rules about the host: its distribution, the rights on it, and what could not be seen."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, looked_at

__all__ = ["RULES"]


def _unknown_distribution(probe: Probe) -> Verdict | None:
    system = probe.facts.os
    if not looked_at(probe) or system.family not in ("unknown", "other"):
        return None
    if system.id is None:
        return Verdict(("neither /etc/os-release nor /usr/lib/os-release says what this is",))
    return Verdict((f"ID={system.id}, ID_LIKE={' '.join(system.id_like) or 'none'}", system.pretty_name or system.id))


def _no_root(probe: Probe) -> Verdict | None:
    privilege = probe.facts.privilege
    if probe.readable or privilege.sudo == "password" or not looked_at(probe):
        return None
    evidence = (f"logged in as {privilege.user or 'unknown'}", *((privilege.reason,) if privilege.reason else ()))
    if privilege.sudo is None:
        return Verdict(evidence, severity="warning", title="whether sudo can be used is not known")
    return Verdict(evidence)


def _password(probe: Probe) -> Verdict | None:
    privilege = probe.facts.privilege
    if probe.readable or privilege.sudo != "password":
        return None
    return Verdict((f"logged in as {privilege.user or 'unknown'}", privilege.reason or "sudo wants a password"))


def _immutable(probe: Probe) -> Verdict | None:
    system = probe.facts.os
    if not system.immutable:
        return None
    return Verdict((system.pretty_name or system.id or "the system image cannot be written",))


def _container(probe: Probe) -> Verdict | None:
    if probe.facts.os.kind != "container":
        return None
    return Verdict(("/.dockerenv or /run/.containerenv is there and systemd does not run",))


def _special(probe: Probe) -> Verdict | None:
    match probe.facts.os.kind:
        case "wsl2":
            return Verdict(("the kernel is that of WSL2",), title="WSL2: the driver is that of Windows")
        case "jetson":
            return Verdict(("/etc/nv_tegra_release",), title="Jetson: driver and toolkit come with JetPack")
        case _:
            pass
    if probe.facts.os.dgx is None:
        return None
    return Verdict(
        (f"DGX OS {probe.facts.os.dgx}",), title="DGX OS: driver and toolkit are NVIDIA's and are never touched"
    )


def _incomplete(probe: Probe) -> Verdict | None:
    unseen = [u for u in probe.facts.unseen if u.what in ("everything", "the rest of the host")]
    return Verdict(tuple(f"{u.what}: {u.why}" for u in unseen)) if unseen else None


def _fabric(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if not facts.nvswitches or not installed_gpus(probe) or "nvidia-fabricmanager" in facts.components:
        return None
    return Verdict((f"{facts.nvswitches} NVSwitches on the bus", "no nvidia-fabricmanager.service"))


RULES = (
    Rule(
        "GW-HOST-001",
        "warning",
        "unknown distribution",
        "gpuwizard does not know this distribution, its package manager and its paths.",
        "Runtime and cluster can be configured all the same; driver and toolkit are yours to install.",
        _unknown_distribution,
        ("hosts.md §1.2",),
    ),
    Rule(
        "GW-HOST-002",
        "error",
        "no root rights",
        "The login user may not become root by sudo, so configuration files can be neither read nor written.",
        "Log in as root or as a user that sudo allows, e.g. `--user NAME`.",
        _no_root,
        ("hosts.md §8.2",),
    ),
    Rule(
        "GW-HOST-003",
        "info",
        "sudo needs a password",
        "Without it the probe saw only what any user sees.",
        "Give it with -K, GPUWIZARD_SUDO_PASSWORD or when the wizard asks.",
        _password,
        ("hosts.md §8.2",),
    ),
    Rule(
        "GW-HOST-004",
        "warning",
        "the system image cannot be changed",
        "On an immutable system drivers, packages and often configuration belong to the image.",
        "Make the change where the image is made; gpuwizard only diagnoses here.",
        _immutable,
        ("hosts.md §1.2",),
    ),
    Rule(
        "GW-HOST-005",
        "warning",
        "this is a container and not a host",
        "The login ended in a container, so what was seen is the container's.",
        "Log in to the host itself.",
        _container,
        ("hosts.md §1.4",),
    ),
    Rule(
        "GW-HOST-006",
        "info",
        "the vendor's system",
        "Driver and toolkit come with the system and are updated with it.",
        "Update them with the vendor's tools; runtime and cluster are configured as anywhere.",
        _special,
        ("hosts.md §1.3",),
    ),
    Rule(
        "GW-HOST-007",
        "error",
        "the probe did not come to its end",
        "A command on the host hung or the connection was cut; what is missing is unknown and not absent.",
        "Probe again; when nvidia-smi hangs, read `dmesg | grep -E 'NVRM|Xid'`.",
        _incomplete,
        ("hosts.md §4.6",),
    ),
    Rule(
        "GW-HOST-008",
        "error",
        "NVSwitches without a fabric manager",
        "GPUs behind NVSwitches do not start CUDA work until nvidia-fabricmanager has set up the fabric.",
        "Install and enable nvidia-fabricmanager in exactly the driver's version.",
        _fabric,
        ("hosts.md §3.5",),
    ),
)
