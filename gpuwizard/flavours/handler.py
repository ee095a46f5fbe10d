"""What the nvidia handler has to be, and whether a host has it already (`runtimes.md §1.4`, `§10.4`)."""

import posixpath
from typing import Any

from gpuwizard.containerd.model import Effective
from gpuwizard.facts.model import Handler

__all__ = ["NAME", "is_right", "wanted_handler"]

NAME = "nvidia"
_OPERATOR_BINARY = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
_RUNC_TYPE = "io.containerd.runc.v2"


def wanted_handler(state: Effective, runtime_path: str) -> Handler:
    """Handler nvidia for this host: runc's type and its complete options, so that SystemdCgroup is equal, with
    `runtime_path` as BinaryName. Without a handler runc the default handler is the model."""
    model = state.runtimes.get("runc") or state.runtimes.get(state.default_runtime_name or "")
    if model is None or model.runtime_type != _RUNC_TYPE:
        return Handler(_RUNC_TYPE, {"BinaryName": runtime_path})
    options: dict[str, Any] = {"BinaryName": runtime_path}
    options |= {k: v for k, v in model.options.items() if k != "BinaryName"}
    return Handler(_RUNC_TYPE, options)


def is_right(present: Handler | None, wanted: Handler) -> bool:
    """True when `present` needs no edit: type, SystemdCgroup and binary as wanted. A bare program name is found by
    the shim in PATH; a handler of the GPU Operator's toolkit is the operator's to change."""
    if present is None or present.runtime_type != wanted.runtime_type:
        return False
    if present.options.get("SystemdCgroup") != wanted.options.get("SystemdCgroup"):
        return False
    binary, expected = str(present.options.get("BinaryName", "")), str(wanted.options["BinaryName"])
    return binary in (expected, posixpath.basename(expected), _OPERATOR_BINARY)
