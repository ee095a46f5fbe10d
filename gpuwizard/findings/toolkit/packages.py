"""Rules about the container toolkit's programs, packages and package sources."""

from gpuwizard.facts.model import CdiSpec, Probe, RuntimeFacts
from gpuwizard.facts.toolkit.toolkit import OPERATOR_TOOLKIT, package_release, release
from gpuwizard.findings.rule import (
    NVIDIA_HANDLER,
    NVIDIA_HANDLERS,
    Rule,
    Verdict,
    installed_gpus,
    looked_at,
    missing_programs,
)

__all__ = ["RULES"]

_RUNTIME = "nvidia-container-runtime"
_HOOK = "nvidia-container-runtime-hook"
_SPLIT = (1, 10, 0)
"""From this release on all packages of the toolkit carry one version."""
_HANDLERS = (*NVIDIA_HANDLERS, "nvidia-cdi", "nvidia-legacy")


def _toolkit_missing(probe: Probe) -> Verdict | None:
    toolkit = probe.facts.toolkit
    if not looked_at(probe) or not installed_gpus(probe) or toolkit.runtime_path is not None:
        return None
    if probe.facts.os.kind in ("container", "bottlerocket"):  # what was seen is not the host
        return None
    if any(_runtime_elsewhere(runtime) for runtime in probe.facts.runtimes):
        return None
    seen = f"nvidia-ctk {toolkit.version} is there" if toolkit.version else "nvidia-ctk is not there either"
    evidence = (f"no {_RUNTIME} in {OPERATOR_TOOLKIT}, /usr/bin, /usr/local/bin, /usr/sbin or /opt/bin", seen)
    working = [spec for spec in toolkit.specs if _works(spec)]
    if not working:
        return Verdict(evidence, about=missing_programs(probe) | _found_at_start(probe))
    return Verdict(
        (*evidence, *(f"{spec.path}: {spec.kind}, {len(spec.devices)} devices" for spec in working)),
        severity="info",
        title="no nvidia-container-runtime: containers get GPUs by CDI alone",
        cause=f"A CDI specification is there, so a runtime with CDI can hand out GPUs; there is no {_RUNTIME} for a "
        "handler nvidia.",
    )


def _found_at_start(probe: Probe) -> frozenset[str]:
    """Where the service makes the handler by itself as soon as it finds the toolkit, the handler is not missing for a
    reason of its own."""
    kubernetes = probe.facts.kubernetes
    return frozenset((NVIDIA_HANDLER,) if kubernetes.flavour in ("k3s", "rke2") and not kubernetes.templates else ())


def _runtime_elsewhere(runtime: RuntimeFacts) -> bool:
    """A handler names a toolkit in a place of its own, and nobody has seen that it is not there."""
    for name in _HANDLERS:
        handler = runtime.handlers.get(name)
        binary = None if handler is None else handler.options.get("BinaryName")
        if isinstance(binary, str) and binary.startswith("/") and _RUNTIME in binary:
            return name not in runtime.missing_binaries
    return False


def _works(spec: CdiSpec) -> bool:
    return bool(
        spec.error is None and spec.understood and spec.devices and not spec.missing and "nvidia.com/" in str(spec.kind)
    )


def _unequal_packages(probe: Probe) -> Verdict | None:
    packages = {
        name: package_release(version)
        for name, version in probe.facts.toolkit.packages.items()
        if name.startswith(("nvidia-container-toolkit", "libnvidia-container"))
    }
    releases = [release(version) for version in packages.values()]
    if len(set(packages.values())) < 2 or any(found is None or found < _SPLIT for found in releases):
        return None
    return Verdict(tuple(f"{name} {probe.facts.toolkit.packages[name]}" for name in sorted(packages)))


def _superseded_packages(probe: Probe) -> Verdict | None:
    packages = probe.facts.toolkit.packages
    old = [name for name in ("nvidia-docker2", "nvidia-container-runtime") if name in packages]
    return Verdict(tuple(f"{name} {packages[name]}" for name in old)) if old else None


def _docker_without_hook(probe: Probe) -> Verdict | None:
    toolkit = probe.facts.toolkit
    docker = next((runtime for runtime in probe.facts.runtimes if runtime.kind == "docker"), None)
    own = toolkit.binaries.get(_RUNTIME, "")
    if docker is None or not docker.running or not installed_gpus(probe) or not own or _operators(own):
        return None
    hook = toolkit.binaries.get(_HOOK)
    if not toolkit.binaries or (hook is not None and not _operators(hook)):
        return None
    by_cdi = release(docker.version)
    if by_cdi is None or (by_cdi >= (29, 2) and "nvidia-cdi-hook" in toolkit.binaries):
        return None
    return Verdict((f"docker {docker.version}", f"{_RUNTIME}: {own}", f"no {_HOOK} in the folders of programs"))


def _operators(path: str) -> bool:
    return path.startswith(f"{OPERATOR_TOOLKIT}/")


def _faulty_release(probe: Probe) -> Verdict | None:
    toolkit = probe.facts.toolkit
    if toolkit.operator_placed is not False or toolkit.version != "1.18.0":
        return None
    return Verdict((f"nvidia-container-toolkit {toolkit.version}", f"{_RUNTIME}: {toolkit.runtime_path}"))


def _no_driver(probe: Probe) -> Verdict | None:
    facts = probe.facts
    driver, toolkit = facts.driver, facts.toolkit
    if not looked_at(probe) or not installed_gpus(probe) or toolkit.operator_placed is not False:
        return None
    if any(found is not None for found in (driver.loaded, driver.on_disk, driver.userspace, driver.problem)):
        return None
    if (
        facts.operator.driver_root
        or facts.operator.validations is not None
        or facts.os.immutable
        or facts.os.kind != "host"
    ):
        return None
    return Verdict((f"{_RUNTIME}: {toolkit.runtime_path}", "no NVIDIA module and no libnvidia-ml.so.VERSION"))


def _source_conflict(probe: Probe) -> Verdict | None:
    conflicts = probe.facts.toolkit.source_conflicts
    return Verdict(conflicts) if conflicts else None


RULES: tuple[Rule, ...] = (
    Rule(
        "GW-TOOLKIT-001",
        "error",
        "the NVIDIA container toolkit is missing",
        "Without nvidia-container-runtime no container gets at the GPU.",
        "Install the package nvidia-container-toolkit from NVIDIA's repository; gpuwizard does not install it.",
        _toolkit_missing,
        ("hosts.md §6.1", "hosts.md §6.3"),
        effect="Pods that ask for nvidia.com/gpu do not start, or start without a GPU.",
        detected="The probe looks for nvidia-container-runtime where packages, the GPU Operator and NixOS put it.",
        messages=(
            'exec: "nvidia-container-runtime": executable file not found in $PATH',
            'failed to get sandbox runtime: no runtime for "nvidia" is configured',
        ),
        sources=("NVIDIA/nvidia-container-toolkit packaging/debian/control", "NVIDIA/gpu-operator#432"),
        instead_of=("GW-RUNTIME-001", "GW-RUNTIME-008"),
    ),
    Rule(
        "GW-TOOLKIT-003",
        "warning",
        "the toolkit's packages are of unlike versions",
        "The packages of the toolkit belong to one release and depend on each other's exact version.",
        "Install all of them in one version: `apt-get install nvidia-container-toolkit=V "
        "nvidia-container-toolkit-base=V libnvidia-container-tools=V libnvidia-container1=V`, or `dnf install` with "
        "NAME-V.",
        _unequal_packages,
        ("hosts.md §6.1", "hosts.md §6.3"),
        effect="Hook, command line tool and library meet options that the others do not know, and containers fail to "
        "start.",
        detected="The package database gives the versions of the installed packages; their upstream parts differ.",
        messages=("nvidia-container-toolkit : Depends: nvidia-container-toolkit-base",),
        sources=("NVIDIA/nvidia-container-toolkit packaging/debian/control",),
    ),
    Rule(
        "GW-TOOLKIT-005",
        "info",
        "docker --gpus has no hook",
        "Docker hands out GPUs for --gpus through nvidia-container-runtime-hook, and only from 29.2 on through CDI. "
        "The package nvidia-container-toolkit-base alone does not bring the hook.",
        "Install the package nvidia-container-toolkit in the version of its base, then `systemctl restart docker`.",
        _docker_without_hook,
        ("runtimes.md §8", "kubernetes.md §1.14 #26"),
        effect="`docker run --gpus all` fails; pods and `docker run --runtime nvidia` are not concerned.",
        detected="dockerd runs, nvidia-container-runtime is there and nvidia-container-runtime-hook is not.",
        messages=('could not select device driver "" with capabilities: [[gpu]]',),
        sources=("NVIDIA/nvidia-container-toolkit packaging/debian/nvidia-container-toolkit.install", "moby/moby"),
    ),
    Rule(
        "GW-TOOLKIT-006",
        "info",
        "superseded packages of the toolkit are installed",
        "nvidia-docker2 and the package nvidia-container-runtime were replaced by nvidia-container-toolkit; "
        "nvidia-docker2 also writes Docker's daemon.json.",
        "Remove them when nvidia-container-toolkit is installed: `apt-get remove nvidia-docker2 "
        "nvidia-container-runtime`. Look into /etc/docker/daemon.json afterwards.",
        _superseded_packages,
        ("hosts.md §6.2",),
        effect="Updates of the toolkit may be held back, and a purge of the old package takes daemon.json with it.",
        detected="The package database lists them.",
        sources=("NVIDIA/nvidia-container-toolkit packaging/debian/control",),
    ),
    Rule(
        "GW-TOOLKIT-007",
        "info",
        "nvidia-ctk 1.18.0 writes containerd's imports wrongly",
        "`nvidia-ctk runtime configure` of 1.18.0 throws away the imports that config.toml has, and puts its drop-in "
        "into /etc/containerd/config.d instead of conf.d. 1.18.1 does neither.",
        "Update the toolkit before anyone runs `nvidia-ctk runtime configure`. gpuwizard's plan does not use that "
        "command.",
        _faulty_release,
        ("runtimes.md §7.2", "kubernetes.md §1.14 #5"),
        effect="Drop-ins of the site are no longer read after the next restart of containerd.",
        detected="The version of the installed toolkit.",
        messages=("Wrote updated config",),
        sources=("NVIDIA/nvidia-container-toolkit pkg/config/engine/containerd/config_drop_in.go (v1.18.0, v1.18.1)",),
    ),
    Rule(
        "GW-TOOLKIT-015",
        "info",
        "the toolkit is there and no driver",
        "The toolkit hands the host's driver to containers; there is none to hand out.",
        "Install the driver, its libraries included; gpuwizard does not install drivers. The toolkit needs no change "
        "then.",
        _no_driver,
        ("kubernetes.md §1.14 #25",),
        effect="Containers that ask for a GPU do not start, or start without one.",
        detected="nvidia-container-runtime is there; no module is loaded or installed, and no libnvidia-ml.so.VERSION "
        "is found.",
        messages=(
            "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared "
            "object file: no such file or directory",
            "Failed to initialize NVML: ERROR_LIBRARY_NOT_FOUND.",
        ),
        sources=("NVIDIA/nvidia-container-toolkit internal/info/auto.go",),
    ),
    Rule(
        "GW-TOOLKIT-016",
        "warning",
        "two package sources name NVIDIA's repository with unlike keys",
        "apt stops at two active entries for one place of which only one is signed by a certain key.",
        "Keep one entry, /etc/apt/sources.list.d/nvidia-container-toolkit.list, and remove the others (often "
        "libnvidia-container.list, nvidia-docker.list or nvidia-container-runtime.list).",
        _source_conflict,
        ("hosts.md §6.2", "kubernetes.md §1.14 #19"),
        effect="`apt-get update` and every installation fail, security updates included; so does the operator's driver "
        "container where it uses the host's sources.",
        detected="The entries of /etc/apt/sources.list and sources.list.d that name nvidia.github.io.",
        messages=("E: Conflicting values set for option Signed-By regarding source",),
        sources=("NVIDIA/cloud-native-docs container-toolkit/troubleshooting.md",),
    ),
)
