"""The GPU Operator's traces on a host (`kubernetes.md §1.4, §1.10`)."""

import re
from collections.abc import Iterable, Mapping

from gpuwizard.facts.model import HostFile, OperatorFacts
from gpuwizard.facts.text import value
from gpuwizard.facts.toolkit.toolkit import OPERATOR_TOOLKIT, ctk_version

__all__ = ["operator_facts", "operator_lines"]

_LIBRARY = re.compile(r"libnvidia-ml\.so\.([1-9][0-9]{2,}(?:\.[0-9]+)+)$")
_RENDERED = "/agent/etc/containerd/config.toml"
"""K3s and RKE2 write this file anew at each start, with the path of the toolkit that they found."""


def operator_lines(lines: Iterable[str]) -> dict[str, list[str]]:
    """``word text`` lines of the section ``operator``, by their word."""
    found: dict[str, list[str]] = {}
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        shown = value(rest)
        if shown is not None:
            found.setdefault(word, []).append(shown)
    return found


def operator_facts(
    told: Mapping[str, list[str]] | None, *, version_text: str | None, files: Mapping[str, HostFile], root: bool
) -> OperatorFacts:
    """`told` are the probe's lines, None when it did not come that far; `version_text` is what the operator's
    nvidia-ctk printed. Without `root` a folder that was not seen may be there all the same."""
    if told is None:
        return OperatorFacts()
    libraries = {match[1] for path in told.get("driver-library", ()) if (match := _LIBRARY.search(path))}
    ready = dict(line.partition("=")[::2] for line in told.get("driver-ready", ()))
    sockets = bool(told.get("plugin-socket"))
    return OperatorFacts(
        toolkit="toolkit" in told,
        toolkit_programs=tuple(sorted(told.get("program", ()))),
        validations=tuple(sorted(told.get("validation", ()))) if "validations" in told else None,
        driver_root="driver" in told if root else ("driver" in told or None),
        device_plugin_socket=sockets if "plugin-folder" in told or root else None,
        drop_ins=_drop_ins(files),
        toolkit_installed="installed" in told,
        toolkit_version=ctk_version(version_text),
        toolkit_error=next(iter(told.get("broken", ())), None),
        toolkit_pod=next((pod for pod in told.get("pod", ()) if pod in ("running", "gone", "none")), None),
        workload=next(iter(told.get("workload", ())), None),
        driver_version=next(iter(libraries)) if len(libraries) == 1 else None,
        host_driver=_flag(ready.get("IS_HOST_DRIVER")),
    )


def _drop_ins(files: Mapping[str, HostFile]) -> tuple[str, ...]:
    """Files of runtimes that name the operator's toolkit and were not rendered by the distribution itself."""
    return tuple(
        sorted(
            path
            for path, file in files.items()
            if file.content is not None
            and OPERATOR_TOOLKIT.encode() in file.content.raw
            and not path.endswith(_RENDERED)
            and "/cdi/" not in path
        )
    )


def _flag(text: str | None) -> bool | None:
    return {"true": True, "false": False}.get((text or "").strip("'\" ").lower())
