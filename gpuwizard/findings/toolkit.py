"""Rules about the NVIDIA container toolkit and its CDI specifications."""

from gpuwizard.facts.model import Probe
from gpuwizard.findings.rule import Rule, Verdict, installed_gpus, looked_at

__all__ = ["RULES"]


def _toolkit_missing(probe: Probe) -> Verdict | None:
    if not looked_at(probe) or not installed_gpus(probe) or probe.facts.toolkit.runtime_path is not None:
        return None
    version = probe.facts.toolkit.version
    seen = f"nvidia-ctk {version} is there" if version else "nvidia-ctk is not there either"
    return Verdict(
        (
            "no nvidia-container-runtime in /usr/local/nvidia/toolkit, /usr/bin, /usr/local/bin, /usr/sbin or /opt/bin",
            seen,
        )
    )


def _specs_twice(probe: Probe) -> Verdict | None:
    specs = probe.facts.toolkit.cdi_specs
    manual = [s for s in specs if s.startswith("/etc/cdi/") and "nvidia" in s]
    generated = [s for s in specs if "/run/cdi/" in s and "nvidia" in s]
    return Verdict((*manual, *generated)) if manual and generated else None


RULES: tuple[Rule, ...] = (
    Rule(
        "GW-TOOLKIT-001",
        "error",
        "the NVIDIA container toolkit is missing",
        "Without nvidia-container-runtime no container gets at the GPU.",
        "Install the package nvidia-container-toolkit from NVIDIA's repository; gpuwizard does not install it.",
        _toolkit_missing,
        ("hosts.md §6",),
    ),
    Rule(
        "GW-TOOLKIT-002",
        "warning",
        "two CDI specifications describe the GPUs",
        "One was written by hand below /etc/cdi and goes stale; the other is kept up to date by nvidia-cdi-refresh.",
        "Remove the one below /etc/cdi.",
        _specs_twice,
        ("hosts.md §6.4",),
    ),
)
