"""Rules about what CDI specifications say: whether they fit the driver, the GPUs, the host's files and each other."""

import re
from collections.abc import Iterable, Iterator

from gpuwizard.facts.model import CdiSpec, Probe
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, looked_at
from gpuwizard.findings.toolkit.cdi_specs import in_use, nvidia_specs, specs_of_gpus

__all__ = ["RULES"]

_INDEX = re.compile(r"(?:gpu)?([0-9]{1,4})")
_SHOWN = 8
"""Lines of evidence about one file."""


def _verdict(probe: Probe, found: list[tuple[CdiSpec, tuple[str, ...]]]) -> Verdict | None:
    """One finding for all specifications concerned, with a remedy for each kind of writer."""
    if not found:
        return None
    return Verdict(
        tuple(f"{spec.path} ({spec.kind}): {line}" for spec, lines in found for line in lines),
        severity="error" if any(in_use(probe, spec) for spec, _ in found) else None,
        remedy=" ".join(dict.fromkeys(_renewal(probe, spec) for spec, _ in found)),
        about=frozenset(spec.path.replace("/var/run/", "/run/", 1) for spec, _ in found),
    )


def _renewal(probe: Probe, spec: CdiSpec) -> str:
    """How the writer of a specification is made to write it anew."""
    kind = str(spec.kind)
    if kind.startswith("k8s.device-plugin."):
        return f"Restart the device plugin's pod on this node, which writes {spec.path}."
    if kind.startswith("k8s."):
        return f"Restart the DRA driver's kubelet plugin on this node, which writes {spec.path}."
    if kind.startswith("management."):
        pod = "nvidia-container-toolkit-daemonset"
        return f"Restart the operator's toolkit pod on this node ({pod}), which writes {spec.path}."
    service = probe.facts.toolkit.refresh_service
    kept = service is not None and bool(service.loaded)
    if kept and spec.path.startswith("/etc/cdi/"):
        return f"Remove it, as nvidia-cdi-refresh keeps one below /run/cdi: `rm {spec.path}`."
    if kept:
        return "Write it anew: `systemctl restart nvidia-cdi-refresh.service`."
    return f"Write it anew: `nvidia-ctk cdi generate --output={spec.path}`."


def _stale_driver(probe: Probe) -> Verdict | None:
    return _verdict(
        probe, [(spec, (_driver_line(probe, spec),)) for spec in nvidia_specs(probe) if _of_another(probe, spec)]
    )


def _of_another(probe: Probe, spec: CdiSpec) -> bool:
    driver = probe.facts.driver
    there = {driver.loaded, driver.userspace, probe.facts.operator.driver_version}
    return driver.loaded is not None and spec.driver_version is not None and spec.driver_version not in there


def _driver_line(probe: Probe, spec: CdiSpec) -> str:
    return f"libraries of driver {spec.driver_version}, loaded is {probe.facts.driver.loaded}"


def _stale_gpus(probe: Probe) -> Verdict | None:
    gpus = installed_gpus(probe)
    if not gpus or probe.facts.driver.problem is not None:
        return None
    if any("nvidia-smi" not in gpu.seen_by or gpu.uuid is None or gpu.index is None for gpu in gpus):
        return None
    whole = {str(gpu.uuid) for gpu in gpus if gpu.mig != "Enabled"}
    found = []
    for spec in specs_of_gpus(probe):
        named = {name for name in spec.uuids if name.startswith("GPU-")}
        gone = named - {str(gpu.uuid) for gpu in gpus}
        absent = whole - named if named else set()
        lines = [f"{uuid} is not in this host" for uuid in sorted(gone)]
        lines += [f"{uuid} is in this host and not named" for uuid in sorted(absent)]
        if not named and not spec.uuids:
            numbers = {int(match[1]) for name in spec.devices if (match := _INDEX.fullmatch(name))}
            present = {gpu.index for gpu in gpus}
            if numbers and numbers != present and not any(gpu.mig == "Enabled" for gpu in gpus):
                lines.append(f"GPUs {_numbers(numbers)}; nvidia-smi shows {_numbers(present)}")
        if lines:
            found.append((spec, tuple(lines[:_SHOWN])))
    return _verdict(probe, found)


def _numbers(numbers: Iterable[int | None]) -> str:
    return ", ".join(str(number) for number in sorted(number for number in numbers if number is not None))


def _stale_mig(probe: Probe) -> Verdict | None:
    gpus = installed_gpus(probe)
    if not gpus or probe.facts.driver.problem is not None or any("nvidia-smi" not in gpu.seen_by for gpu in gpus):
        return None
    sliced = [gpu for gpu in gpus if gpu.mig == "Enabled"]
    if any(not gpu.mig_instances or any(i.uuid is None for i in gpu.mig_instances) for gpu in sliced):
        return None
    present = {str(instance.uuid) for gpu in sliced for instance in gpu.mig_instances or ()}
    found = []
    for spec in specs_of_gpus(probe):
        named = {name for name in spec.uuids if name.startswith("MIG-")}
        lines = [f"{uuid} is no MIG device of this host" for uuid in sorted(named - present)]
        if spec.uuids:
            lines += [f"MIG device {uuid} is not named" for uuid in sorted(present - named)]
            sliced_uuids = {gpu.uuid for gpu in sliced}
            lines += [f"{uuid} is in MIG mode and named whole" for uuid in spec.uuids if uuid in sliced_uuids]
        if lines:
            found.append((spec, tuple(lines[:_SHOWN])))
    return _verdict(probe, found)


def _missing_paths(probe: Probe) -> Verdict | None:
    if not looked_at(probe):
        return None
    found = []
    for spec in nvidia_specs(probe):
        missing = spec.missing
        if probe.facts.driver.loaded is None:  # then the driver is what is wrong
            missing = tuple(path for path in missing if not path.startswith("/dev/"))
        if missing and not _of_another(probe, spec):
            lines = [f"{path} does not exist" for path in missing[:_SHOWN]]
            if len(missing) > _SHOWN:
                lines.append(f"and {len(missing) - _SHOWN} more")
            found.append((spec, tuple(lines)))
    return _verdict(probe, found)


def _folder(spec: CdiSpec) -> str:
    return spec.path.replace("/var/run/", "/run/", 1).rpartition("/")[0]


def _shared(probe: Probe, *, same_folder: bool) -> Iterator[tuple[CdiSpec, CdiSpec, list[str]]]:
    """Pairs of specifications that name one device, and its names."""
    specs = nvidia_specs(probe)
    for number, first in enumerate(specs):
        for second in specs[number + 1 :]:
            if first.kind == second.kind and (_folder(first) == _folder(second)) is same_folder:
                names = [name for name in first.devices if name in second.devices]
                if names:
                    yield first, second, names


def _conflicting(probe: Probe) -> Verdict | None:
    pairs = list(_shared(probe, same_folder=True))
    if not pairs:
        return None
    return Verdict(tuple(f"{a.path} and {b.path} both name {a.kind}={_names(names)}" for a, b, names in pairs))


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _specs_twice(probe: Probe) -> Verdict | None:
    pairs = [
        (first, second, names)
        for first, second, names in _shared(probe, same_folder=False)
        if {_folder(first), _folder(second)} == {"/etc/cdi", "/run/cdi"}
    ]
    if not pairs:
        return None
    return Verdict(
        tuple(f"{a.path} and {b.path} both name {a.kind}={_names(names)}" for a, b, names in pairs),
        about=frozenset(spec.path for a, b, _ in pairs for spec in (a, b) if _folder(spec) == "/etc/cdi"),
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "GW-TOOLKIT-002",
        "warning",
        "two CDI specifications describe the GPUs",
        "One was written by hand below /etc/cdi and goes stale; the other is kept up to date below /run/cdi. A device "
        "that both name is taken from /run/cdi, one that only the other names from there.",
        "Remove the one below /etc/cdi.",
        _specs_twice,
        ("hosts.md §6.4", "kubernetes.md §1.14 #24"),
        effect="After a change of the driver or the GPUs requests for old names still resolve, to files that are gone; "
        "and when the one below /run/cdi is missing after a boot, only the stale one is left.",
        detected="Specifications in both folders are of one kind and name the same device.",
        messages=("unresolvable CDI devices",),
        sources=("cncf-tags/container-device-interface pkg/cdi/cache.go", "NVIDIA/nvidia-container-toolkit#1239"),
    ),
    Rule(
        "GW-CDI-001",
        "warning",
        "a CDI specification is of another driver",
        "The file names the driver's libraries by their version. The driver was changed after it was written.",
        "Write it anew.",
        _stale_driver,
        ("hosts.md §6.4", "kubernetes.md §1.14 #24"),
        effect="Containers that get their GPU by it fail at their creation, as the files are gone, or get libraries "
        "that do not fit the module.",
        detected="The version in the paths of libcuda.so and libnvidia-ml.so is neither that of the loaded module nor "
        "that of the host's libraries.",
        messages=(
            "failed to fulfil mount request: open /usr/lib/x86_64-linux-gnu/libcuda.so",
            "Failed to initialize NVML: Driver/library version mismatch",
        ),
        sources=("NVIDIA/nvidia-container-toolkit#1239", "NVIDIA/nvidia-container-toolkit deployments/systemd"),
        instead_of=("GW-CDI-002", "GW-CDI-003", "GW-CDI-004", "GW-TOOLKIT-002"),
    ),
    Rule(
        "GW-CDI-002",
        "warning",
        "a CDI specification does not fit the GPUs",
        "The file names each GPU. GPUs were exchanged, added, taken out or handed to a virtual machine after it was "
        "written.",
        "Write it anew.",
        _stale_gpus,
        ("hosts.md §6.4", "kubernetes.md §1.14 #24"),
        effect="A request for a GPU that it does not name fails; one for a GPU that is gone fails later.",
        detected="The UUIDs (or, without any, the numbers) in it against those that nvidia-smi shows.",
        messages=("unresolvable CDI devices nvidia.com/gpu=GPU-",),
        sources=("NVIDIA/nvidia-container-toolkit#1895", "NVIDIA/gpu-operator#531"),
        instead_of=("GW-CDI-004", "GW-TOOLKIT-002"),
    ),
    Rule(
        "GW-CDI-003",
        "warning",
        "a CDI specification does not fit the MIG devices",
        "MIG was set up anew after the file was written; nvidia-cdi-refresh does not notice that.",
        "Write it anew.",
        _stale_mig,
        ("hosts.md §6.4", "kubernetes.md §1.14 #24"),
        effect="A request for a MIG device that it does not name fails; one for a device that is gone fails later.",
        detected="The MIG devices in it against those that nvidia-smi lists.",
        messages=("unresolvable CDI devices nvidia.com/gpu=MIG-",),
        sources=("NVIDIA/cloud-native-docs container-toolkit/cdi-support.md",),
        instead_of=("GW-CDI-002", "GW-CDI-004", "GW-TOOLKIT-002"),
    ),
    Rule(
        "GW-CDI-004",
        "warning",
        "a CDI specification names files that are not there",
        "What a specification names is mounted into containers; a file that is not there stops their creation. "
        "Sockets of stopped daemons, renumbered /dev/dri nodes and hooks of a removed toolkit are the usual ones.",
        "Write it anew.",
        _missing_paths,
        ("hosts.md §6.4", "kubernetes.md §1.14 #24"),
        effect="Containers that get their GPU by it fail at their creation.",
        detected="The probe looks for each path that the file takes from the host.",
        messages=("failed to stat CDI host device", "failed to fulfil mount request"),
        sources=("cncf-tags/container-device-interface pkg/cdi/container-edits.go", "NVIDIA/gpu-operator#531"),
    ),
    Rule(
        "GW-CDI-005",
        "error",
        "two CDI specifications in one folder name the same device",
        "Between files of one folder no one is preferred, so a device that two of them name is not handed out at all.",
        "Remove one of the two files.",
        _conflicting,
        ("hosts.md §6.4", "kubernetes.md §1.14 #24"),
        effect="Every request for such a device fails.",
        detected="Two files of one folder are of one kind and name the same device.",
        messages=("conflicting device", "unresolvable CDI devices"),
        sources=("cncf-tags/container-device-interface pkg/cdi/cache.go",),
    ),
)
