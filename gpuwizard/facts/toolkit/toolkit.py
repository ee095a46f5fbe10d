"""The NVIDIA container toolkit of a host (`hosts.md §6.4`)."""

from collections.abc import Iterable

from gpuwizard.facts.model import ToolkitFacts
from gpuwizard.facts.text import load_toml, value, version_of

__all__ = ["toolkit_facts"]


def toolkit_facts(
    *, runtime_path: str | None, version_text: str | None, config_text: str | None, cdi_specs: Iterable[str]
) -> ToolkitFacts:
    """`version_text` is what ``nvidia-ctk --version`` printed, `config_text` the runtime's config.toml. A spec that
    shows twice because ``/var/run`` is ``/run`` counts once."""
    specs: dict[str, str] = {}
    for spec in cdi_specs:
        shown = value(spec)
        if shown:
            specs.setdefault(shown.replace("/var/run/", "/run/", 1), shown)
    return ToolkitFacts(
        version=version_of(version_text),
        runtime_path=value(runtime_path),
        mode=_mode(config_text),
        cdi_specs=tuple(specs.values()),
    )


def _mode(config_text: str | None) -> str | None:
    document = load_toml(config_text) if config_text is not None else ""
    section = document.get("nvidia-container-runtime") if isinstance(document, dict) else None
    mode = section.get("mode") if isinstance(section, dict) else None
    return value(mode) if isinstance(mode, str) else None
