"""Rules about the host as a whole: its distribution and what kind of environment it is. The other parts of the
prefix GW-HOST are in the modules `host_…`."""

from collections.abc import Mapping

from gpuwizard.facts.model import OsFacts, Probe
from gpuwizard.findings.host.age import end_of_updates, paid_updates, today
from gpuwizard.findings.model import Severity
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, looked_at

__all__ = ["RULES"]

_BY_SYSTEM: Mapping[str, str] = {
    "flatcar": "Choose the NVIDIA system extension or the built-in nvidia.service where the machine is provisioned "
    "(Ignition, Butane); /usr/share/flatcar/nvidia-metadata names the versions. gpuwizard only diagnoses here.",
    "talos": "Build the image with the system extensions nvidia-open-gpu-kernel-modules and "
    "nvidia-container-toolkit of "
    "the same Talos release and load the modules in the machine configuration. gpuwizard only diagnoses here.",
    "nixos": "Set hardware.nvidia and hardware.nvidia-container-toolkit.enable in the system's configuration and "
    "rebuild it. gpuwizard only diagnoses here.",
    "cos": "Let GKE install the driver (its GPU driver DaemonSet) and do not add the GPU Operator's. gpuwizard only "
    "diagnoses here.",
    "ubuntu-core": "Use snaps made for it, or Ubuntu Server. gpuwizard only diagnoses here.",
}
_TRANSACTIONAL = (
    "Install with `transactional-update pkg in` the signed driver and nvidia-compute-utils of the same version and "
    "reboot into the new snapshot. gpuwizard only diagnoses here."
)
_OPENSHIFT = (
    "Let the GPU Operator bring driver and toolkit in containers and change files through MachineConfigs. gpuwizard "
    "only diagnoses here."
)
_OSTREE = (
    "Put driver and toolkit into the image (bootc, or layered with `rpm-ostree install`) and reboot into it. gpuwizard "
    "only diagnoses here."
)


def _unknown_distribution(probe: Probe) -> Verdict | None:
    system = probe.facts.os
    if not looked_at(probe) or system.family not in ("unknown", "other") or system.kind == "bottlerocket":
        return None
    if system.id is None:
        return Verdict(("neither /etc/os-release nor /usr/lib/os-release says what this is",))
    return Verdict((f"ID={system.id}, ID_LIKE={' '.join(system.id_like) or 'none'}", system.pretty_name or system.id))


def _immutable(probe: Probe) -> Verdict | None:
    system = probe.facts.os
    if not system.immutable or system.kind in ("bottlerocket", "container"):
        return None
    shown = system.pretty_name or system.id or "the system image cannot be written"
    return Verdict((shown, *((system.immutable_why,) if system.immutable_why else ())), remedy=_image_remedy(system))


def _image_remedy(system: OsFacts) -> str | None:
    if (by_name := _BY_SYSTEM.get(system.id or "")) is not None:
        return by_name
    why = system.immutable_why or ""
    if system.family == "suse" or "transactional" in why:
        return _TRANSACTIONAL
    if system.id in ("rhcos", "scos") or (system.variant_id == "coreos" and system.id in ("rhel", "centos")):
        return _OPENSHIFT
    return _OSTREE if "OSTree" in why or "ostree" in why else None


def _ended(probe: Probe) -> Verdict | None:
    system = probe.facts.os
    last = end_of_updates(system)
    paid = paid_updates(system)
    if last is None or last >= today() or system.kind == "container":
        return None
    if paid is not None and probe.facts.state.extended_support and paid >= today():
        return None
    shown = system.pretty_name or f"{system.id} {system.version_id}"
    more = f"; with Ubuntu Pro until {paid:%Y-%m-%d}" if paid is not None and paid >= today() else ""
    return Verdict((f"{shown}: updates ended on {last:%Y-%m-%d}{more}",))


def _no_version(probe: Probe) -> Verdict | None:
    system, kubernetes = probe.facts.os, probe.facts.kubernetes
    if not looked_at(probe) or kubernetes.flavour == "none" or not installed_gpus(probe):
        return None
    if system.id is None or system.version_id is not None or system.kind != "host":
        return None
    severity: Severity | None = None if probe.facts.operator.toolkit or kubernetes.flavour == "unknown" else "info"
    return Verdict((f"ID={system.id}", "no VERSION_ID in os-release"), severity=severity)


def _old_glibc(probe: Probe) -> Verdict | None:
    facts = probe.facts
    sliceable = [gpu for gpu in installed_gpus(probe) if gpu.mig in ("Enabled", "Disabled")]
    by_operator = facts.driver.installer == "operator"
    if facts.os.family != "rhel" or facts.os.major != 8 or not sliceable or by_operator or facts.driver.loaded is None:
        return None
    if facts.kubernetes.flavour in ("none", "unknown"):
        return None
    shown = facts.os.pretty_name or f"ID={facts.os.id}"
    return Verdict(
        (shown, f"driver {facts.driver.loaded} of the host", *(f"{g.name}: MIG {g.mig}" for g in sliceable[:4]))
    )


def _incomplete(probe: Probe) -> Verdict | None:
    unseen = [u for u in probe.facts.unseen if u.what in ("everything", "the rest of the host")]
    return Verdict(tuple(f"{u.what}: {u.why}" for u in unseen)) if unseen else None


def _fabric(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if not facts.nvswitches or not installed_gpus(probe) or "nvidia-fabricmanager" in facts.components:
        return None
    if facts.os.kind != "host" or facts.driver.installer == "operator":
        return None  # the host of the container runs one, or the operator's driver container does
    if any(unseen.what == "services" for unseen in facts.unseen):
        return None
    if all(gpu.fabric_state == "Completed" and gpu.fabric_status in (None, "Success") for gpu in installed_gpus(probe)):
        return None  # somebody did set up the fabric
    return Verdict((f"{facts.nvswitches} NVSwitches on the bus", "no nvidia-fabricmanager.service"))


RULES = (
    Rule(
        "GW-HOST-001",
        "warning",
        "unknown distribution",
        "gpuwizard does not know this distribution, its package manager and its paths.",
        "Runtime and cluster can be configured all the same; driver and toolkit are yours to install.",
        _unknown_distribution,
        ("hosts.md §1.1", "hosts.md §1.2", "hosts.md §1.2 #21", "hosts.md §1.2 #25"),
        effect="NVIDIA may have neither packages nor a driver container for it; the GPU Operator's driver pod then "
        "ends in ImagePullBackOff.",
        detected="ID and ID_LIKE of /etc/os-release, else of /usr/lib/os-release.",
        messages=("nvcr.io/nvidia/driver: not found",),
        sources=("os-release(5)", "NVIDIA/gpu-operator#2225", "NVIDIA/gpu-operator#1212"),
        instead_of=("GW-HOST-014", "GW-KUBE-012"),
    ),
    Rule(
        "GW-HOST-004",
        "warning",
        "the system image cannot be changed",
        "On an immutable system drivers, packages and often configuration belong to the image.",
        "Make the change where the image is made; gpuwizard only diagnoses here.",
        _immutable,
        (
            "hosts.md §1.2",
            *(f"hosts.md §1.2 #{row}" for row in (13, 14, 15, 16, 17, 20, 24)),
            "hosts.md §5.1",
            "hosts.md §5.2",
        ),
        effect="What is written to the system is lost at the next update or cannot be written at all.",
        detected="ID and VARIANT_ID, or marks that do not depend on them: /run/ostree-booted, transactional-update, "
        "/etc/NIXOS, /usr/share/flatcar, /usr mounted read-only.",
        messages=("Read-only file system",),
        sources=(
            "siderolabs/talos README.md",
            "flatcar.org/docs using-nvidia",
            "ansible/ansible test/units/module_utils/facts/system/distribution/fixtures/sl-micro.json",
        ),
        instead_of=("GW-HOST-001",),
    ),
    Rule(
        "GW-HOST-007",
        "error",
        "the probe did not come to its end",
        "A command on the host hung or the connection was cut; what is missing is unknown and not absent.",
        "Probe again; when nvidia-smi hangs, read `dmesg | grep -E 'NVRM|Xid'`.",
        _incomplete,
        ("hosts.md §4.6",),
        effect="Nothing is said of what was not seen, and nothing is changed on this host.",
        detected="The probe's last section is missing.",
        sources=("NVIDIA/open-gpu-kernel-modules issues on hanging nvidia-smi",),
    ),
    Rule(
        "GW-HOST-008",
        "error",
        "NVSwitches without a fabric manager",
        "GPUs behind NVSwitches do not start CUDA work until nvidia-fabricmanager has set up the fabric.",
        "Install nvidia-fabricmanager in exactly the driver's version and start it: "
        "`systemctl enable --now nvidia-fabricmanager`.",
        _fabric,
        ("hosts.md §3.5", "hosts.md §2.2"),
        effect="Every CUDA program on this host fails while nvidia-smi looks healthy.",
        detected="PCI functions of vendor 10de with class 0680, and no nvidia-fabricmanager.service.",
        messages=("system not yet initialized", "CUDA error 802"),
        sources=("NVIDIA/gpu-operator#1043", "NVIDIA/gpu-operator#286", "NVIDIA/go-nvlib pkg/nvpci"),
        instead_of=("GW-DRIVER-061",),
    ),
    Rule(
        "GW-HOST-009",
        "warning",
        "this release of the distribution gets no more updates",
        "The distribution ended its updates for everybody; NVIDIA and Kubernetes drop such releases soon after.",
        "Move the host to a release that is maintained, or buy the extended support of its vendor "
        "(on Ubuntu `pro attach`).",
        _ended,
        ("hosts.md §1.2 #1", "hosts.md §1.2 #2", "hosts.md §1.2 #3", "hosts.md §1.2 #8", "hosts.md §1.2 #11"),
        effect="Security holes stay open, and new drivers, toolkits and kernels are not built for it.",
        detected="ID and VERSION_ID against a table of dates; Ubuntu's paid updates by their repository.",
        sources=("endoflife-date/endoflife.date products/ubuntu.md", "endoflife-date/endoflife.date products/rhel.md"),
    ),
    Rule(
        "GW-HOST-014",
        "warning",
        "the distribution has no version",
        "os-release has no VERSION_ID, as on rolling distributions, so Node Feature Discovery makes no label of it. "
        "The "
        "GPU Operator asks for the label as soon as a node has a GPU, with driver.enabled=false as well.",
        "When you use the GPU Operator: "
        "`kubectl label node NAME feature.node.kubernetes.io/system-os_release.VERSION_ID=rolling`.",
        _no_version,
        ("kubernetes.md §1.14 #34", "hosts.md §1.2 #23", "hosts.md §1.1"),
        effect="The GPU Operator's ClusterPolicy stays in an error and deploys nothing.",
        detected="No VERSION_ID, a GPU and a Kubernetes on this host.",
        messages=("unable to retrieve OS version from label",),
        sources=("NVIDIA/gpu-operator controllers/state_manager.go",),
    ),
    Rule(
        "GW-HOST-034",
        "info",
        "the GPU Operator's MIG manager does not run here",
        "With a driver on the host the MIG manager uses the host's C library, and that of RHEL 8 (glibc 2.28) is "
        "too old "
        "for it.",
        "When you use the GPU Operator and MIG: let it bring the driver in its container, or set "
        "migManager.enabled=false and slice with `nvidia-smi mig` or nvidia-mig-parted on the host.",
        _old_glibc,
        ("kubernetes.md §1.14 #53", "hosts.md §1.2 #3"),
        effect="The pod nvidia-mig-manager crashes and the node's MIG labels stay as they are.",
        detected="Release 8 of the RHEL family, a driver that is not the operator's, and a GPU that knows MIG.",
        messages=("GLIBC_2.32 not found",),
        sources=("NVIDIA/cloud-native-docs gpu-operator/release-notes.rst known issues",),
    ),
)
