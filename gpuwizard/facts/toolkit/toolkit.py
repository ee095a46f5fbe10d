"""The NVIDIA container toolkit of a host: what is installed, where, and what containers get by it (`hosts.md §6`)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuwizard.facts.model import ToolkitFacts
from gpuwizard.facts.text import value, version_of
from gpuwizard.facts.toolkit.config import ToolkitConfig, config_refused, read_config

__all__ = [
    "OPERATOR_TOOLKIT",
    "PACKAGES",
    "ToolkitInputs",
    "ctk_version",
    "package_release",
    "release",
    "toolkit_facts",
]

OPERATOR_TOOLKIT = "/usr/local/nvidia/toolkit"
"""Where the GPU Operator puts its toolkit (`kubernetes.md §1.4`)."""
PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
    "libnvidia-container",
    "nvidia-container-toolkit-operator-extensions",
    "nvidia-docker2",
    "nvidia-container-runtime",
)
"""The packages of the toolkit, the superseded ones last."""
_CONFIG = "/etc/nvidia-container-runtime/config.toml"
_OPERATOR_CONFIG = f"{OPERATOR_TOOLKIT}/.config/nvidia-container-runtime/config.toml"
_MODES = ("legacy", "csv", "cdi", "jit-cdi")


@dataclass(frozen=True, slots=True)
class ToolkitInputs:
    """What one probe brought. `config` and `operator_config` are (0, text), (1, "") for a file that is not there and
    (2, "") for one that cannot be read; None: nobody looked. `elsewhere` is the config.toml that the runtime's unit
    names in its environment. `integrated` says whether containers get an integrated GPU; None: not known."""

    runtime_path: str | None = None
    binaries: Iterable[str] = ()
    version_text: str | None = None
    operator_version: str | None = None
    packages: Mapping[str, str] | None = None
    config: tuple[int, str] | None = None
    operator_config: tuple[int, str] | None = None
    low_level: Iterable[str] = ()
    operator_low_level: Iterable[str] = ()
    elsewhere: str | None = None
    integrated: bool | None = False


def toolkit_facts(inputs: ToolkitInputs) -> ToolkitFacts:
    """The toolkit, without its CDI specifications and units."""
    runtime = value(inputs.runtime_path)
    if runtime is not None and not (runtime.startswith("/") and runtime.endswith("/nvidia-container-runtime")):
        runtime = None  # no path, so something else was printed in its place
    placed = None if runtime is None else runtime.startswith(f"{OPERATOR_TOOLKIT}/")
    packages = {name: version for name, version in (inputs.packages or {}).items() if name in PACKAGES}
    own = _package_version(packages) or ctk_version(inputs.version_text)
    version = own or inputs.operator_version
    of_runtime = release(inputs.operator_version if placed else own)
    path, source, lines = _CONFIG, inputs.config, inputs.low_level
    if placed:
        path, source, lines = _OPERATOR_CONFIG, inputs.operator_config, inputs.operator_low_level
    elif inputs.elsewhere is not None:
        path, source, lines = inputs.elsewhere, None, ()
    config, error = _config(source, of_runtime, installed=runtime is not None)
    low_level, private = _low_level(lines)
    return ToolkitFacts(
        version=version,
        runtime_path=runtime,
        mode=config.mode,
        packages=packages,
        binaries=_binaries(inputs.binaries),
        config_path=path if source is None or source[0] != 1 else None,
        config_error=error,
        runtimes=config.runtimes,
        default_kind=config.default_kind,
        operator_placed=placed,
        resolved_mode=_resolved(config.mode, of_runtime, inputs.integrated),
        low_level=low_level,
        private_runtimes=private,
        spec_dirs=config.spec_dirs,
        no_cgroups=config.no_cgroups,
        log_level=config.log_level,
        debug=config.debug,
        driver_root=config.driver_root,
    )


def ctk_version(text: str | None) -> str | None:
    """The version out of ``nvidia-ctk --version``, whatever it says besides."""
    return version_of((text or "").rpartition("CLI version ")[2])


def release(version: str | None) -> tuple[int, ...] | None:
    """``1.18.0~rc.1`` → (1, 18, 0); None where no release can be read."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", version or "")
    return None if match is None else tuple(int(part or 0) for part in match.groups())


def package_release(version: str) -> str:
    """The upstream part of a package's version: ``1:1.20.0-1`` → ``1.20.0``."""
    return version.rpartition(":")[2].partition("-")[0]


def _package_version(packages: Mapping[str, str]) -> str | None:
    for name in PACKAGES[:2]:
        if name in packages:
            return package_release(packages[name]) or None
    return None


def _config(
    source: tuple[int, str] | None, of_runtime: tuple[int, ...] | None, *, installed: bool
) -> tuple[ToolkitConfig, str | None]:
    """The settings and why they are refused. A file that is not there means the defaults, where there is a runtime."""
    unknown = ToolkitConfig(mode=None, runtimes=(), default_kind=None, no_cgroups=None, log_level=None)
    if source is None or source[0] not in (0, 1) or (source[0] == 1 and not installed):
        return unknown, None
    config = read_config(source[1])
    return config, config_refused(config, of_runtime)


def _resolved(mode: str | None, of_runtime: tuple[int, ...] | None, integrated: bool | None) -> str | None:
    """What ``auto`` comes to (nvidia-container-toolkit: internal/info/auto.go): the just-in-time specification since
    1.18, the legacy hook before."""
    if mode != "auto":
        return mode if mode in _MODES else None
    if integrated is None or of_runtime is None:
        return "csv" if integrated else None
    if integrated:
        return "csv"
    return "jit-cdi" if of_runtime >= (1, 18) else "legacy"


def _binaries(lines: Iterable[str]) -> dict[str, str]:
    """``name path`` lines: the host's own program before the operator's."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, path = line.strip().partition(" ")
        name, shown = value(name) or "", value(path)
        if name and shown and (name not in found or found[name].startswith(f"{OPERATOR_TOOLKIT}/")):
            found[name] = shown
    return found


def _low_level(lines: Iterable[str]) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """``name path`` lines; a name without a path was looked for and is nowhere."""
    found: dict[str, str | None] = {}
    private: list[str] = []
    for line in lines:
        name, _, path = line.strip().partition(" ")
        shown = value(name)
        if shown == "private":
            private.append(value(path) or "?")
        elif shown:
            found.setdefault(shown, value(path))
    return found, tuple(private)
