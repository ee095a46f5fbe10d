"""Rules about the toolkit's config.toml: what it says and what containers get by it."""

from gpuwizard.facts.model import Probe
from gpuwizard.facts.toolkit.toolkit import release
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus

__all__ = ["RULES"]

_HOOK = "nvidia-container-runtime-hook"
_MODES = ("auto", "legacy", "csv", "cdi", "jit-cdi")


def _line(probe: Probe, setting: str) -> str:
    """A setting as evidence; the file's name where the default holds."""
    return f"{probe.facts.toolkit.config_path or 'no config.toml, so the default holds'}: {setting}"


def _legacy_without_hook(probe: Probe) -> Verdict | None:
    toolkit = probe.facts.toolkit
    if toolkit.resolved_mode != "legacy" or not toolkit.binaries or not installed_gpus(probe):
        return None
    if _HOOK in toolkit.binaries:
        return None
    return Verdict(
        (
            _line(probe, f'mode = "{toolkit.mode}", with toolkit {toolkit.version or "unknown"} the legacy hook'),
            f"nvidia-container-runtime: {toolkit.runtime_path}",
            f"no {_HOOK} beside it or in the folders of programs",
        )
    )


def _refused(probe: Probe) -> Verdict | None:
    toolkit = probe.facts.toolkit
    if toolkit.config_error is None or toolkit.runtime_path is None:
        return None
    return Verdict((f"{toolkit.config_path}: {toolkit.config_error}",))


def _unknown_mode(probe: Probe) -> Verdict | None:
    toolkit = probe.facts.toolkit
    if toolkit.mode is None or toolkit.runtime_path is None:
        return None
    of_runtime = release(probe.facts.operator.toolkit_version if toolkit.operator_placed else toolkit.version)
    too_old = toolkit.mode == "jit-cdi" and of_runtime is not None and of_runtime < (1, 18)
    if toolkit.mode in _MODES and not too_old:
        return None
    known = ", ".join(mode for mode in _MODES if mode != "jit-cdi" or not too_old)
    return Verdict((_line(probe, f'mode = "{toolkit.mode}"'), f"this release knows: {known}"))


def _debug_left_on(probe: Probe) -> Verdict | None:
    toolkit = probe.facts.toolkit
    if not toolkit.debug or toolkit.runtime_path is None:
        return None
    return Verdict(tuple(_line(probe, f'debug = "{log}"') for log in toolkit.debug))


def _systemd(probe: Probe) -> str | None:
    """The runtime whose containers are in systemd's control groups, as evidence."""
    runtime = probe.facts.kubelet_runtime
    if runtime is None:
        return None
    handler = runtime.handlers.get("nvidia")
    if runtime.systemd_cgroup is True or (handler is not None and handler.options.get("SystemdCgroup") is True):
        return f"{runtime.kind} {runtime.version or ''}".strip() + ": control groups are systemd's"
    return None


def _cut_off_by_reload(probe: Probe) -> tuple[str, ...] | None:
    toolkit, groups = probe.facts.toolkit, _systemd(probe)
    if toolkit.resolved_mode != "legacy" or groups is None or toolkit.dev_char is not False:
        return None
    if not installed_gpus(probe):
        return None
    return (_line(probe, f'mode = "{toolkit.mode}"'), groups, "/dev/char has no links to NVIDIA's devices")


def _legacy_by_hand(probe: Probe) -> Verdict | None:
    evidence = _cut_off_by_reload(probe)
    return Verdict(evidence) if evidence is not None and probe.facts.toolkit.mode == "legacy" else None


def _legacy_by_age(probe: Probe) -> Verdict | None:
    evidence = _cut_off_by_reload(probe)
    if evidence is None or probe.facts.toolkit.mode != "auto":
        return None
    return Verdict((f"toolkit {probe.facts.toolkit.version}", *evidence))


def _no_low_level(probe: Probe) -> Verdict | None:
    toolkit, runtime = probe.facts.toolkit, probe.facts.kubelet_runtime
    if runtime is None or runtime.kind != "crio" or toolkit.runtime_path is None or not toolkit.runtimes:
        return None
    if any(toolkit.low_level.get(name, "unknown") is not None for name in toolkit.runtimes):
        return None
    wanted = ", ".join(toolkit.runtimes)
    found = tuple(f"CRI-O's own: {path}" for path in toolkit.private_runtimes)
    return Verdict(
        (_line(probe, f"runtimes: {wanted}"), "none of them is in /usr/bin, /usr/sbin or /usr/local", *found)
    )


def _no_cgroups(probe: Probe) -> Verdict | None:
    toolkit = probe.facts.toolkit
    if toolkit.no_cgroups is not True or toolkit.resolved_mode != "legacy" or toolkit.runtime_path is None:
        return None
    return Verdict((_line(probe, "no-cgroups = true"),))


def _csv_on_a_card(probe: Probe) -> Verdict | None:
    facts = probe.facts
    cards = [gpu for gpu in facts.gpus if gpu.pci is not None]
    if facts.toolkit.mode != "csv" or facts.os.kind == "jetson" or facts.os.l4t is not None or not cards:
        return None
    return Verdict((_line(probe, 'mode = "csv"'), f"{len(cards)} GPUs on the PCI bus"))


def _driver_elsewhere(probe: Probe) -> Verdict | None:
    facts = probe.facts
    toolkit = facts.toolkit
    if toolkit.driver_root != "/run/nvidia/driver" or facts.operator.driver_root is not False:
        return None
    if toolkit.operator_placed is not False or facts.driver.loaded is None:
        return None
    return Verdict((_line(probe, f'root = "{toolkit.driver_root}"'), "no driver is mounted at /run/nvidia/driver"))


RULES: tuple[Rule, ...] = (
    Rule(
        "GW-TOOLKIT-004",
        "error",
        "the toolkit works by a hook that is not there",
        "In legacy mode nvidia-container-runtime adds nvidia-container-runtime-hook to each container. The package "
        "nvidia-container-toolkit-base alone does not bring it.",
        "Install the package nvidia-container-toolkit in the version of its base; or, from 1.18 on, "
        "`nvidia-ctk config --in-place --set nvidia-container-runtime.mode=auto`.",
        _legacy_without_hook,
        ("hosts.md §6.1", "hosts.md §6.4"),
        effect="Every container with the handler nvidia that asks for a GPU fails at its creation.",
        detected="The mode in config.toml and the version say legacy; the hook is in no folder of programs.",
        messages=("fork/exec /usr/bin/nvidia-container-runtime-hook: no such file or directory",),
        sources=(
            "NVIDIA/nvidia-container-toolkit packaging/debian/nvidia-container-toolkit.install",
            "NVIDIA/nvidia-container-toolkit internal/info/auto.go",
        ),
        instead_of=("GW-TOOLKIT-011",),
    ),
    Rule(
        "GW-TOOLKIT-008",
        "error",
        "the toolkit refuses its config.toml",
        "nvidia-container-runtime reads this file at every start of a container and stops when it cannot.",
        "Correct the line that is named, or move the file away and write the defaults: "
        "`nvidia-ctk config --config-file=/etc/nvidia-container-runtime/config.toml --in-place`.",
        _refused,
        ("hosts.md §6.4",),
        effect="No container with the handler nvidia starts; where it is the default handler, no container at all.",
        detected="The probe sends the file, and gpuwizard reads it as the toolkit does.",
        messages=("error loading config: failed to load specified config file", "is not host-relative"),
        sources=(
            "NVIDIA/nvidia-container-toolkit api/config/v1/toml.go",
            "NVIDIA/nvidia-container-toolkit api/config/v1/cli.go",
        ),
    ),
    Rule(
        "GW-TOOLKIT-009",
        "error",
        "the toolkit does not know the mode in its config.toml",
        "nvidia-container-runtime knows auto, legacy, csv and cdi, and from 1.18 on jit-cdi.",
        "`nvidia-ctk config --in-place --set nvidia-container-runtime.mode=auto`.",
        _unknown_mode,
        ("hosts.md §6.4",),
        effect="Containers with the handler nvidia fail at their creation.",
        detected="The mode in config.toml, and the version of the toolkit.",
        messages=("invalid runtime mode", "failed to construct OCI spec modifier: invalid mode"),
        sources=("NVIDIA/nvidia-container-toolkit internal/info/auto.go",),
    ),
    Rule(
        "GW-TOOLKIT-010",
        "info",
        "the toolkit writes a debug log",
        "A debug file in config.toml is written at every start of a container and is never rotated.",
        "Comment the debug lines out when they are no longer needed.",
        _debug_left_on,
        ("hosts.md §6.4",),
        effect="The log grows without limit.",
        detected="The debug settings of [nvidia-container-runtime] and [nvidia-container-cli].",
        sources=("NVIDIA/nvidia-container-toolkit api/config/v1/toml.go",),
    ),
    Rule(
        "GW-TOOLKIT-011",
        "warning",
        "legacy mode was chosen: a daemon-reload takes GPUs away from running containers",
        "The legacy hook grants devices behind the runtime's back. With systemd's control groups a `systemctl "
        "daemon-reload`, which every update of a package may run, writes the device rules anew, without the GPUs.",
        "`nvidia-ctk config --in-place --set nvidia-container-runtime.mode=auto` (1.18 or newer), then start the GPU "
        "pods anew. Until then drain the node before packages are updated.",
        _legacy_by_hand,
        ("kubernetes.md §1.14 #21", "hosts.md §6.6", "hosts.md §0 rule 10"),
        effect="Running GPU containers lose their GPUs and only get them back when they are made anew.",
        detected="The mode in config.toml, the cgroup driver of the kubelet's runtime, and no links in /dev/char.",
        messages=("Failed to initialize NVML: Unknown Error",),
        sources=("NVIDIA/nvidia-container-toolkit#48", "NVIDIA/gpu-operator#485"),
    ),
    Rule(
        "GW-TOOLKIT-012",
        "info",
        "a toolkit before 1.18: a daemon-reload takes GPUs away from running containers",
        "Before 1.18 mode auto means the legacy hook, which grants devices behind the runtime's back. With systemd's "
        "control groups a `systemctl daemon-reload` writes the device rules anew, without the GPUs.",
        "Drain the node, then update the toolkit to 1.18 or newer; the update itself runs a daemon-reload. Without an "
        "update: `nvidia-ctk system create-dev-char-symlinks --create-all`.",
        _legacy_by_age,
        ("kubernetes.md §1.14 #21", "hosts.md §6.6", "hosts.md §6.4"),
        effect="Running GPU containers lose their GPUs at the next daemon-reload, unless the device plugin passes "
        "device specifications or CDI names.",
        detected="The version of the toolkit, the cgroup driver of the kubelet's runtime, and no links in /dev/char.",
        messages=("Failed to initialize NVML: Unknown Error",),
        sources=("NVIDIA/nvidia-container-toolkit#48", "NVIDIA/nvidia-container-toolkit internal/info/auto.go"),
    ),
    Rule(
        "GW-TOOLKIT-013",
        "error",
        "the toolkit finds no low-level runtime",
        "nvidia-container-runtime hands over to runc or crun, which it looks for in PATH. CRI-O brings its own in a "
        "folder that is not in PATH.",
        "Name CRI-O's runtime by its path: `nvidia-ctk config --in-place --set "
        "nvidia-container-runtime.runtimes=/usr/libexec/crio/crun`.",
        _no_low_level,
        ("runtimes.md §9",),
        effect="Every container with the handler nvidia fails at its creation.",
        detected="The runtimes in config.toml, looked for where the toolkit looks.",
        messages=("error locating runtime: no runtime binary found from candidate list",),
        sources=("NVIDIA/nvidia-container-toolkit internal/oci/runtime_low_level.go",),
    ),
    Rule(
        "GW-TOOLKIT-014",
        "warning",
        "the toolkit does not grant devices (no-cgroups)",
        "no-cgroups is meant for rootless Docker: the legacy hook then leaves the device rules of control groups "
        "alone.",
        "`nvidia-ctk config --in-place --set nvidia-container-cli.no-cgroups=false`.",
        _no_cgroups,
        ("hosts.md §6.4",),
        effect="Containers that are not privileged see the GPU's files and may not open them, unless the device plugin "
        "passes device specifications.",
        detected="no-cgroups = true in config.toml, in legacy mode.",
        messages=("Failed to initialize NVML: Unknown Error", "Failed to initialize NVML: Insufficient Permissions"),
        sources=("NVIDIA/nvidia-container-toolkit api/config/v1/cli.go",),
    ),
    Rule(
        "GW-TOOLKIT-017",
        "error",
        "the toolkit is in the mode of Jetson systems",
        "In csv mode containers get what the lists of a Tegra system name, and nothing of a GPU on the PCI bus.",
        "`nvidia-ctk config --in-place --set nvidia-container-runtime.mode=auto`.",
        _csv_on_a_card,
        ("hosts.md §6.4",),
        effect="Containers with the handler nvidia start without a GPU.",
        detected="The mode in config.toml, on a host that is no Tegra system.",
        sources=("NVIDIA/nvidia-container-toolkit internal/info/auto.go",),
    ),
    Rule(
        "GW-TOOLKIT-018",
        "error",
        "the toolkit looks for the driver where there is none",
        "config.toml says that the driver lies below /run/nvidia/driver, as the GPU Operator's driver container has "
        "it; nothing is mounted there.",
        "`nvidia-ctk config --in-place --set nvidia-container-cli.root=/` where the driver is the host's own.",
        _driver_elsewhere,
        ("kubernetes.md §1.14 #25",),
        effect="Containers that ask for a GPU fail at their creation, or get no driver libraries.",
        detected="root in [nvidia-container-cli], and an empty /run/nvidia/driver.",
        messages=("nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1",),
        sources=("NVIDIA/nvidia-container-toolkit api/config/v1/cli.go",),
    ),
)
