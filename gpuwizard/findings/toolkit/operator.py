"""Rules about what the GPU Operator does to a host: its toolkit, its driver, the files of runtimes that it writes."""

import re

from gpuwizard.facts.model import Probe, RuntimeFacts
from gpuwizard.facts.toolkit.toolkit import OPERATOR_TOOLKIT, release
from gpuwizard.findings.rule import NVIDIA_HANDLER, Rule, Verdict, looked_at, missing_programs
from gpuwizard.findings.runtimes.words import whole

__all__ = ["RULES"]

_RUNTIME = "nvidia-container-runtime"
_CONTAINER_PATH = re.compile(rb"^[^#\n]*[\"'](/runtime/config-dir[^\"']*)[\"']", re.MULTILINE)
_DRIVER = re.compile(
    r"nvidia-(driver|open|headless|dkms|kernel|compute|kmod|\d)|kmod-nvidia|akmod-nvidia|dkms-nvidia|cuda-drivers"
    r"|linux-modules-nvidia|libnvidia-compute|xorg-x11-drv-nvidia"
)
"""Packages that bring a module or the libraries of one."""
_EMBEDDED = ("k3s", "rke2", "k0s", "microk8s", "k8s-snap")


def _left_over(probe: Probe) -> Verdict | None:
    operator = probe.facts.operator
    if _RUNTIME not in operator.toolkit_programs or operator.toolkit_pod not in ("none", "gone"):
        return None
    if not operator.toolkit_installed:
        return None
    if operator.validations or probe.facts.kubernetes.active is not True or not looked_at(probe):
        return None
    files = "no status files below /run/nvidia/validations"
    return Verdict(
        (
            f"{OPERATOR_TOOLKIT}/{_RUNTIME}",
            "no process is noted in /run/nvidia/toolkit/toolkit.pid"
            if operator.toolkit_pod == "none"
            else "the process noted in /run/nvidia/toolkit/toolkit.pid is gone",
            files,
            *operator.drop_ins,
        )
    )


def _broken(probe: Probe) -> Verdict | None:
    operator = probe.facts.operator
    if operator.toolkit_error is None:
        return None
    evidence = (f"{OPERATOR_TOOLKIT}/{_RUNTIME} starts it", operator.toolkit_error)
    return Verdict(evidence, about=missing_programs(probe))


def _both_toolkits(probe: Probe) -> Verdict | None:
    facts = probe.facts
    own = facts.toolkit.binaries.get(_RUNTIME)
    if own is None or own.startswith(OPERATOR_TOOLKIT) or _RUNTIME not in facts.operator.toolkit_programs:
        return None
    return Verdict(
        (
            f"{OPERATOR_TOOLKIT}/{_RUNTIME} {facts.operator.toolkit_version or ''}".strip(),
            f"{own} {facts.toolkit.version or ''}".strip(),
        )
    )


def _both_drivers(probe: Probe) -> Verdict | None:
    operator, driver = probe.facts.operator, probe.facts.driver
    if operator.driver_root is not True:
        return None
    own = tuple(f"{name} {version}" for name, version in sorted(driver.packages.items()) if _DRIVER.match(name))[:4]
    if not own and (driver.on_disk is None or driver.on_disk == operator.driver_version):
        return None
    return Verdict(
        (
            f"/run/nvidia/driver: driver {operator.driver_version or 'of unknown version'}",
            *(own or (f"module {driver.on_disk} in /lib/modules",)),
            f"loaded: {driver.loaded or 'none'}",
        )
    )


def _container_path(probe: Probe) -> Verdict | None:
    for path, file in probe.files.items():
        if file.content is not None and path.endswith(".toml") and b"/runtime/config-dir" in file.content.raw:
            raw = file.content.raw
            for match in _CONTAINER_PATH.finditer(raw):
                line = raw.count(b"\n", 0, match.start(1)) + 1
                shown = f"{path}: line {line}: {match[1].decode('utf-8', 'replace')[:200]}"
                return Verdict((shown,), about=_readers(probe, path) | {NVIDIA_HANDLER})
    return None


def _readers(probe: Probe, path: str) -> frozenset[str]:
    """The runtimes that read the file."""
    readers = (r for r in probe.facts.runtimes if path in (r.config_path, *r.config_files))
    return frozenset((path,)).union(*(whole(runtime) for runtime in readers))


def _jetson(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if facts.os.kind != "jetson" or not (facts.operator.toolkit or facts.operator.validations):
        return None
    seen = [OPERATOR_TOOLKIT] if facts.operator.toolkit else []
    seen += [f"/run/nvidia/validations/{name}" for name in facts.operator.validations or ()]
    return Verdict((f"L4T {facts.os.l4t}" if facts.os.l4t else "a Jetson system", *seen[:6]))


def _foreign_runtime(probe: Probe) -> Verdict | None:
    facts = probe.facts
    if facts.kubernetes.flavour not in _EMBEDDED:
        return None
    used = facts.kubelet_runtime
    written = [path for path in facts.operator.drop_ins if path.startswith("/etc/containerd/")]
    if not written or used is None or (used.config_path or "").startswith("/etc/containerd/"):
        return None
    others = [runtime for runtime in facts.runtimes if runtime is not used and _reads_etc(runtime)]
    if not others:
        return None
    return Verdict(
        (*written, *(f"{_shown(runtime)} reads /etc/containerd" for runtime in others), f"kubelet: {_shown(used)}"),
        about=frozenset((NVIDIA_HANDLER,)),
    )


def _reads_etc(runtime: RuntimeFacts) -> bool:
    return runtime.kind == "containerd" and (runtime.config_path or "").startswith("/etc/containerd/")


def _shown(runtime: RuntimeFacts) -> str:
    return " ".join(part for part in (runtime.kind, runtime.version, runtime.config_path) if part)


def _loses_imports(probe: Probe) -> Verdict | None:
    version = probe.facts.operator.toolkit_version
    if release(version) != (1, 18, 0):
        return None
    return Verdict((f"{OPERATOR_TOOLKIT}/nvidia-ctk: {version}", "GPU Operator 25.10.0 brings it"))


def _wants_containerd(probe: Probe) -> Verdict | None:
    version, flavour = probe.facts.operator.toolkit_version, probe.facts.kubernetes.flavour
    if release(version) != (1, 17, 0) or flavour not in _EMBEDDED:
        return None
    seen = (f"{OPERATOR_TOOLKIT}/nvidia-ctk: {version}", f"the host runs {flavour}")
    return Verdict((*seen, "GPU Operator 24.9.0 brings it"))


def _waits_for_driver(probe: Probe) -> Verdict | None:
    facts = probe.facts
    toolkit, operator = facts.toolkit, facts.operator
    if not toolkit.operator_placed or toolkit.driver_root != "/run/nvidia/driver":
        return None
    if operator.driver_root is not False or facts.driver.loaded is None:
        return None
    return Verdict(
        (f'{toolkit.config_path}: root = "{toolkit.driver_root}"', "no driver is mounted at /run/nvidia/driver")
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "GW-OPERATOR-001",
        "warning",
        "the operator's toolkit was left behind",
        "The GPU Operator's toolkit lies on the host and no pod of the operator keeps it. K3s and RKE2 take it before "
        "any other at their next start.",
        "When the operator is gone for good, take its path out of the runtime's configuration (on K3s remove "
        "`default-runtime: nvidia` first), then `rm -r /usr/local/nvidia/toolkit` and restart the runtime.",
        _left_over,
        ("kubernetes.md §1.13", "runtimes.md §11 #18"),
        effect="Nobody updates it; when somebody removes it, every pod of a handler that names it fails.",
        detected="The programs are there, the toolkit pod's process is not, and the validator left no files.",
        messages=("fork/exec /usr/local/nvidia/toolkit/nvidia-container-runtime: no such file or directory",),
        sources=("NVIDIA/gpu-operator assets/state-container-toolkit/0500_daemonset.yaml",),
    ),
    Rule(
        "GW-OPERATOR-002",
        "error",
        "the operator's toolkit is not whole",
        "nvidia-container-runtime in /usr/local/nvidia/toolkit is a script that starts nvidia-container-runtime.real "
        "beside it.",
        "Restart the toolkit's pod on this node (nvidia-container-toolkit-daemonset): it places everything anew.",
        _broken,
        ("kubernetes.md §1.4",),
        effect="Every container of a handler that names it fails; K3s and RKE2 prefer it to a whole toolkit of the "
        "host.",
        detected="The script names a program that is not there or cannot be run.",
        messages=("/usr/local/nvidia/toolkit/nvidia-container-runtime.real: not found",),
        sources=("NVIDIA/nvidia-container-toolkit cmd/nvidia-ctk-installer/toolkit/installer/executables.go",),
        instead_of=("GW-TOOLKIT-001", "GW-RUNTIME-008", "GW-OPERATOR-006"),
    ),
    Rule(
        "GW-OPERATOR-003",
        "info",
        "the operator and the host both bring a toolkit",
        "K3s and RKE2 take the operator's; other runtimes take what their handler names.",
        "Keep one: toolkit.enabled=false in the operator's values, or remove the host's package "
        "nvidia-container-toolkit.",
        _both_toolkits,
        ("kubernetes.md §1.5", "runtimes.md §2.4"),
        effect="Settings and updates of one of them have no effect.",
        detected="nvidia-container-runtime lies in /usr/local/nvidia/toolkit and in a folder of programs.",
        sources=("NVIDIA/gpu-operator deployments/gpu-operator/values.yaml",),
    ),
    Rule(
        "GW-OPERATOR-004",
        "warning",
        "the operator's driver container and a driver of the host are both there",
        "Only one module can be loaded. The operator's libraries and the host's then belong to different drivers.",
        "Keep one: driver.enabled=false in the operator's values where the host has the driver, else remove the host's "
        "packages, and reboot.",
        _both_drivers,
        ("kubernetes.md §1.5",),
        effect="Which driver is loaded after a boot is a matter of chance, and the operator's driver pod may never "
        "get ready.",
        detected="A driver is mounted at /run/nvidia/driver, and packages or a module of the host bring one too.",
        messages=(
            "Failed to initialize NVML: Driver/library version mismatch",
            "Could not unload NVIDIA driver kernel modules",
        ),
        sources=("NVIDIA/k8s-driver-manager",),
    ),
    Rule(
        "GW-OPERATOR-009",
        "error",
        "containerd imports a folder of the toolkit's pod",
        "Toolkit 1.18.0 wrote the path that its drop-in has inside the pod into imports. That folder is not on the "
        "host.",
        "Put the site's imports back, with /etc/containerd/conf.d/*.toml for the operator's drop-in; update the GPU "
        "Operator to 25.10.1 or newer, and restart containerd.",
        _container_path,
        ("kubernetes.md §1.14 #5", "runtimes.md §7.2"),
        effect="The drop-in with the handler nvidia is not read, and what else was imported is lost.",
        detected="A configuration file of containerd names a path below /runtime/config-dir.",
        messages=('no runtime for "nvidia" is configured',),
        sources=("NVIDIA/nvidia-container-toolkit pkg/config/engine/containerd/config_drop_in.go (v1.18.0)",),
        instead_of=("GW-RUNTIME-001", "GW-CONTAINERD-011", "GW-CONTAINERD-019", "GW-OPERATOR-012"),
    ),
    Rule(
        "GW-OPERATOR-010",
        "warning",
        "the GPU Operator does not support Jetson",
        "The operator's driver, toolkit and validator are made for GPUs on the PCI bus; the GPU of a Jetson is part "
        "of its system on a chip.",
        "Keep the operator away from this node (node label nvidia.com/gpu.deploy.operands=false) and use JetPack's "
        "toolkit with the device plugin.",
        _jetson,
        ("hosts.md §1.3", "kubernetes.md §1.5"),
        effect="The operator's pods never get ready, and its toolkit stands in the way of JetPack's.",
        detected="An L4T release, and files that the operator left.",
        sources=("NVIDIA/cloud-native-docs gpu-operator/platform-support.rst",),
    ),
    Rule(
        "GW-OPERATOR-011",
        "warning",
        "the operator configured a containerd that is not the kubelet's",
        "This Kubernetes brings its own containerd. The operator wrote into /etc/containerd, which another containerd "
        "on this host reads, usually Docker's.",
        "Set NO_RUNTIME_CONFIG=true in toolkit.env (toolkit 1.19 or newer), take the operator's lines out of "
        "/etc/containerd, and check `containerd config dump` before Docker is restarted.",
        _foreign_runtime,
        ("kubernetes.md §1.14 #7", "kubernetes.md §1.6"),
        effect="That containerd, and Docker with it, may not start again at its next restart.",
        detected="A file below /etc/containerd names the operator's toolkit; the kubelet uses another containerd.",
        messages=("containerd: invalid plugin config",),
        sources=("NVIDIA/nvidia-container-toolkit#982",),
        instead_of=("GW-RUNTIME-001", "GW-KUBE-013"),
    ),
    Rule(
        "GW-OPERATOR-012",
        "warning",
        "the operator's toolkit 1.18.0 writes containerd's imports wrongly",
        "At each start of its pod this release throws away the imports that containerd's config.toml has.",
        "Update the GPU Operator to 25.10.1 or newer.",
        _loses_imports,
        ("kubernetes.md §1.14 #5", "runtimes.md §7.2"),
        effect="Drop-ins of the site are no longer read after the next restart of containerd.",
        detected="The version of nvidia-ctk in /usr/local/nvidia/toolkit.",
        sources=("NVIDIA/nvidia-container-toolkit pkg/config/engine/containerd/config_drop_in.go (v1.18.0)",),
    ),
    Rule(
        "GW-OPERATOR-013",
        "warning",
        "the operator's toolkit 1.17.0 does not start on this Kubernetes",
        "Toolkit 1.17.0 runs `containerd config dump` on the host, where this Kubernetes has no containerd of that "
        "name.",
        "Update the GPU Operator to 24.9.1 or newer.",
        _wants_containerd,
        ("kubernetes.md §1.14",),
        effect="The toolkit's pod ends in an error at its next start, and every pod behind it waits.",
        detected="The version of nvidia-ctk in /usr/local/nvidia/toolkit, and the flavour of Kubernetes.",
        messages=("failed to run command chroot [/host containerd config dump]: exit status 127",),
        sources=("NVIDIA/gpu-operator#1109", "NVIDIA/gpu-operator#1099"),
    ),
    Rule(
        "GW-OPERATOR-014",
        "warning",
        "the operator's toolkit expects the operator's driver",
        "Its config.toml says that the driver lies below /run/nvidia/driver, and nothing is mounted there, while a "
        "driver is loaded.",
        "When the operator's driver pod starts just now, wait for it. Where the host has the driver, set "
        "driver.enabled=false and restart the toolkit's pod (nvidia-container-toolkit-daemonset).",
        _waits_for_driver,
        ("kubernetes.md §1.14 #25", "kubernetes.md §1.5"),
        effect="Containers that ask for a GPU fail at their creation, or get no driver libraries.",
        detected="root in [nvidia-container-cli] of the operator's config.toml, and an empty /run/nvidia/driver.",
        messages=("nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1",),
        sources=("NVIDIA/gpu-operator assets/state-container-toolkit/0400_configmap.yaml",),
        instead_of=("GW-OPERATOR-006",),
    ),
)
