"""What the nvidia handler has to be, and whether a host has it already (`runtimes.md §1.4`, `§10.4`)."""

import posixpath
from typing import Any

from gpuwizard.containerd.model import Effective
from gpuwizard.facts.model import Handler

__all__ = ["NAME", "OPERATOR_BINARY", "expected_options", "fits_binary", "is_right", "wanted_handler"]

NAME = "nvidia"
OPERATOR_BINARY = "/usr/local/nvidia/toolkit/nvidia-container-runtime"
_RUNC_TYPE = "io.containerd.runc.v2"
_LIKE_RUNC = ("", None, _RUNC_TYPE, "io.containerd.runc.v1")  # their options are the same


def wanted_handler(state: Effective, runtime_path: str) -> Handler:
    """Handler nvidia for this host: runc's type and its complete options, so that SystemdCgroup is equal, with
    `runtime_path` as BinaryName. Without a handler runc the default handler is the model, else any of its type."""
    names = ["runc", state.default_runtime_name or "", *sorted(n for n in state.runtimes if n != NAME)]
    found = (state.runtimes[name] for name in names if name in state.runtimes)
    model = next((handler for handler in found if handler.runtime_type in _LIKE_RUNC), None)
    options: dict[str, Any] = {"BinaryName": runtime_path}
    if model is not None:
        options |= {k: v for k, v in model.options.items() if k != "BinaryName"}
    return Handler(_RUNC_TYPE, options)


def expected_options(state: Effective) -> tuple[str, ...]:
    """The options of handler nvidia that must be in force after the restart, as `Check.options` has them."""
    handler = state.runtimes.get(NAME)
    if handler is None:
        return ()
    binary, cgroup = handler.options.get("BinaryName"), handler.options.get("SystemdCgroup") is True
    named = (f"{NAME}.BinaryName={binary}",) if isinstance(binary, str) and binary else ()
    return (*named, f"{NAME}.SystemdCgroup={'true' if cgroup else 'false'}")


def is_right(present: Handler | None, wanted: Handler) -> bool:
    """True when `present` needs no edit: type, SystemdCgroup and binary as wanted."""
    if present is None or present.runtime_type != wanted.runtime_type:
        return False
    if present.options.get("SystemdCgroup") != wanted.options.get("SystemdCgroup"):
        return False
    return fits_binary(present.options.get("BinaryName"), wanted)


def fits_binary(binary: object, wanted: Handler) -> bool:
    """True for the program that is wanted. A bare program name is found by the shim in PATH; a handler of the GPU
    Operator's toolkit is the operator's to change."""
    expected = str(wanted.options["BinaryName"])
    return str(binary or "") in (expected, posixpath.basename(expected), OPERATOR_BINARY)
