"""Two settings by which a kubelet refuses to start on a machine: failSwapOn and failCgroupV1."""

import re
from collections.abc import Iterator

from gpuwizard.facts.look import Look
from gpuwizard.facts.text import value

__all__ = ["refuses"]

_OWN_FILES = ("/var/lib/kubelet/config.yaml", "/var/lib/kubelet/instance-config.yaml")


def refuses(look: Look, setting: str, flag: str, *, default: bool | None) -> bool | None:
    """Whether the kubelet of kubelet.service refuses: its flags win over its configuration, that over the `default`.
    None where its configuration was not seen."""
    for words in _arguments(look):
        for word in reversed(words):
            match = re.fullmatch(rf"[\"']?--{flag}(?:=([a-z0-9]+))?[\"']?", word)
            if match is not None:
                return (match[1] or "true") not in ("false", "f", "0")
    configs = [
        section for section in look.frames.all("kubelet-config") if section.key in _OWN_FILES and not section.cut
    ]
    if not configs:
        return None
    for section in reversed(configs):
        for line in section.lines:
            key, _, content = line.partition(":")
            if key.strip().strip("\"'") == setting and (said := (value(content) or "").strip("\"'").lower()):
                return said != "false"
    return default


def _arguments(look: Look) -> Iterator[list[str]]:
    """The command line of the running kubelet, else what its environment files add."""
    running = [list(p.arguments) for p in look.processes if p.program == "kubelet" and p.unit == "kubelet.service"]
    if running:
        yield from running
        return
    for section in look.frames.all("kubelet-flags"):
        yield re.split(r"[\s\"']+", section.text)
