"""Rules about how CDI specifications are kept: units, unreadable and absent files, the old hook beside them."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, looked_at
from gpuwizard.findings.toolkit.cdi_specs import in_use, nvidia_specs

__all__ = ["RULES"]

_KEPT = "/run/cdi/nvidia.yaml"
"""The specification that nvidia-cdi-refresh writes."""


def _no_spec(probe: Probe) -> Verdict | None:
    toolkit = probe.facts.toolkit
    if toolkit.mode != "cdi" or toolkit.runtime_path is None or toolkit.default_kind is None:
        return None
    if toolkit.spec_dirs is not None or not looked_at(probe) or not installed_gpus(probe):
        return None
    if len(toolkit.specs) != len(toolkit.cdi_specs) or any(not spec.understood for spec in toolkit.specs):
        return None
    if any(spec.kind == toolkit.default_kind and spec.error is None for spec in toolkit.specs):
        return None
    seen = tuple(f"{spec.path}: {spec.error or spec.kind}" for spec in toolkit.specs)
    return Verdict(
        (
            f'{toolkit.config_path}: mode = "cdi", default-kind = "{toolkit.default_kind}"',
            *(seen or ("no file in /etc/cdi and /run/cdi",)),
        )
    )


def _invalid(probe: Probe) -> Verdict | None:
    broken = [
        spec
        for spec in probe.facts.toolkit.specs
        if spec.error is not None and ("nvidia.com" in str(spec.kind) or "nvidia" in spec.path.rpartition("/")[2])
    ]
    if not broken:
        return None
    used = any(in_use(probe, spec) for spec in broken)
    return Verdict(tuple(f"{spec.path}: {spec.error}" for spec in broken), severity="error" if used else None)


def _refresh_failed(probe: Probe) -> Verdict | None:
    service = probe.facts.toolkit.refresh_service
    driver = probe.facts.driver
    if service is None or service.active != "failed" or driver.loaded is None or driver.problem is not None:
        return None  # without a working driver it has to fail
    return Verdict(
        (f"nvidia-cdi-refresh.service: {service.active}, result {service.result or 'unknown'}",),
        about=frozenset((_KEPT,)),
    )


def _refresh_off(probe: Probe) -> Verdict | None:
    toolkit = probe.facts.toolkit
    units = (toolkit.refresh_path, toolkit.refresh_service)
    if any(unit is None or unit.enabled not in ("disabled", "masked", "masked-runtime") for unit in units):
        return None
    specs = [spec for spec in nvidia_specs(probe) if spec.kind == "nvidia.com/gpu"]
    if not specs:
        return None
    return Verdict(
        (
            *(f"{unit.name}: {unit.enabled}" for unit in units if unit is not None),
            *(f"{spec.path} ({spec.kind})" for spec in specs),
        ),
        severity="warning" if any(in_use(probe, spec) for spec in specs) else None,
    )


def _hook_beside_cdi(probe: Probe) -> Verdict | None:
    toolkit, runtime = probe.facts.toolkit, probe.facts.kubelet_runtime
    if toolkit.legacy_hook is None or runtime is None or runtime.kind != "crio":
        return None
    specs = [f"{spec.path} ({spec.kind})" for spec in nvidia_specs(probe)]
    if not specs and toolkit.resolved_mode not in ("cdi", "jit-cdi"):
        return None
    return Verdict((toolkit.legacy_hook, *(specs or (f"mode {toolkit.resolved_mode}",))))


RULES: tuple[Rule, ...] = (
    Rule(
        "GW-CDI-006",
        "error",
        "the toolkit is in cdi mode and there is no CDI specification",
        "In cdi mode nvidia-container-runtime takes GPUs from a specification of the default kind.",
        "Write one: `nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml`, and "
        "`systemctl enable --now nvidia-cdi-refresh.path nvidia-cdi-refresh.service`; where the GPU Operator placed "
        "the toolkit, restart its toolkit pod. Or set mode auto.",
        _no_spec,
        ("hosts.md §6.4", "kubernetes.md §1.14 #24"),
        effect="Containers with the handler nvidia that ask for GPUs by NVIDIA_VISIBLE_DEVICES fail at their creation.",
        detected="The mode and the default kind in config.toml; no file in /etc/cdi and /run/cdi is of that kind.",
        messages=(
            "unresolvable CDI devices nvidia.com/gpu=all",
            "unresolvable CDI devices management.nvidia.com/gpu=all",
        ),
        sources=("NVIDIA/nvidia-container-toolkit#1239", "NVIDIA/nvidia-container-toolkit internal/modifier/cdi.go"),
    ),
    Rule(
        "GW-CDI-007",
        "warning",
        "a CDI specification cannot be read",
        "Runtimes pass over a specification that is no YAML or JSON, or that has no version, kind or devices.",
        "Write it anew with `nvidia-ctk cdi generate --output=FILE`, or remove it.",
        _invalid,
        ("hosts.md §6.4", "kubernetes.md §1.14 #24"),
        effect="The devices that it was to name do not exist for containers.",
        detected="The probe reads each specification; one of an unusual form is sent whole and parsed.",
        messages=("failed to parse CDI Spec", "failed to load CDI Spec", "invalid CDI Spec"),
        sources=("cncf-tags/container-device-interface pkg/cdi/spec.go",),
    ),
    Rule(
        "GW-CDI-008",
        "warning",
        "nvidia-cdi-refresh failed",
        "The service that writes the CDI specification ended with an error. Ended without one it is inactive, and "
        "well.",
        "Read `journalctl -u nvidia-cdi-refresh.service`, then `systemctl restart nvidia-cdi-refresh.service`.",
        _refresh_failed,
        ("hosts.md §6.4",),
        effect="The specification below /run/cdi is missing or not up to date.",
        detected="The unit's state, with a driver that works.",
        messages=("Failed to start nvidia-cdi-refresh.service - Refresh NVIDIA CDI specification file",),
        sources=("NVIDIA/nvidia-container-toolkit deployments/systemd/nvidia-cdi-refresh.service",),
        instead_of=("GW-CDI-001", "GW-CDI-002", "GW-CDI-003", "GW-CDI-004"),
    ),
    Rule(
        "GW-CDI-009",
        "info",
        "nothing keeps the CDI specification up to date",
        "There is a specification, and both units that write it anew after a boot or an update are switched off.",
        "`systemctl enable --now nvidia-cdi-refresh.path nvidia-cdi-refresh.service`.",
        _refresh_off,
        ("hosts.md §6.4", "hosts.md §6.6"),
        effect="After an update of the driver the file names libraries that are gone; below /run/cdi it is gone itself "
        "after a boot.",
        detected="The units' state, and the specifications of kind nvidia.com/gpu.",
        sources=("NVIDIA/nvidia-container-toolkit packaging/rpm/SPECS/nvidia-container-toolkit.spec",),
    ),
    Rule(
        "GW-CDI-010",
        "warning",
        "an OCI hook of the old kind stands beside CDI",
        "CRI-O runs oci-nvidia-hook.json for containers that already get their GPU by CDI, and the two get in each "
        "other's way.",
        "Remove the hook file and `systemctl restart crio`.",
        _hook_beside_cdi,
        ("hosts.md §6.6",),
        effect="Containers fail at their creation or see other GPUs than they were given.",
        detected="The folders of OCI hooks, CRI-O as the kubelet's runtime, and a CDI specification or mode.",
        messages=("error running hook #0", "nvidia-container-cli: mount error"),
        sources=("NVIDIA/cloud-native-docs container-toolkit/cdi-support.md",),
    ),
)
